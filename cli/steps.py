"""`atelier steps`, `promote`, `sample`, `metrics` and `report`: what a job has beside its adapter."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from atelier_client import PromotionFailed
from atelier_client.models import AdapterFormat, Job
from atelier_client.steps import Step
from cli.app import FLAG, App
from cli.context import FAILED, Context, JsonOption, open_context, show_all
from cli.ids import find_job
from cli.tables import Cell, Column, describe_age, print_rows
from cli.training import file_name

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or a prefix of it.")]
OutOption = Annotated[Path, typer.Option(metavar="DIR", help="Where it goes.")]


def steps(job: JobArgument, as_json: JsonOption = False) -> None:
    """List the steps whose adapters a job has kept, with their losses."""
    with open_context(as_json) as context:
        found = list(context.client.list_steps(find_job(context.client, job)))
        show_all(found, as_json, _print_steps)


def _print_steps(found: list[Step]) -> None:
    columns = (
        Column("STEP", is_number=True), Column("LOSS", is_number=True), Column("HELD OUT", is_number=True),
        Column("SIZE", is_number=True), Column("MADE", is_number=True), Column(""),
    )  # fmt: skip
    rows: list[Sequence[Cell]] = [
        (
            f"{one.step}", _show_loss(one.loss), _show_loss(one.validation_loss), _show_size(one),
            describe_age(one.created_at), "the job's adapter" if one.is_promoted else "",
        )
        for one in found
    ]  # fmt: skip
    print_rows(columns, rows)


def _show_loss(loss: float | None) -> str:
    return "" if loss is None else f"{loss:.4f}"


def _show_size(step: Step) -> str:
    return f"{sum(file.size for file in step.files.values()) / 1e6:.1f} MB"


def promote(
    job: JobArgument,
    step: Annotated[int, typer.Argument(metavar="STEP", help="One that `atelier steps JOB` lists.")],
    as_json: JsonOption = False,
) -> None:
    """Make another step's adapter the job's. A worker first proves that its files load."""
    with open_context(as_json, {"/step": "STEP"}) as context:
        job_id = find_job(context.client, job)
        with context.reporter.waiting("Promoting", lambda: f"step {step}"):
            try:
                context.client.promote_step(job_id, step)
            except PromotionFailed as error:
                context.reporter.fail(str(error), job=job_id, step=step)
                raise typer.Exit(FAILED) from error
        text = f"The adapter of step {step} is the adapter of job {job_id} now."
        context.reporter.say("promoted", text, job=job_id, step=step)


def sample(
    job: JobArgument,
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT", help="What to draw; may be several.")],
    seed: Annotated[int, typer.Option(metavar="N", help="The first image's; the others' follow.")] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the images go.")] = Path("out"),
    as_json: JsonOption = False,
) -> None:
    """Have a running job draw prompts at its next step. It changes nothing in the training."""
    with open_context(as_json, {"/prompts": "PROMPT", "/seed": "--seed"}) as context:
        job_id = find_job(context.client, job)
        made = context.client.request_samples(job_id, prompts, seed=seed)
        with context.reporter.waiting("Drawing", lambda: "at the job's next step"):
            done = context.client.wait_for_samples(job_id, made.id)
        for index, image in enumerate(done.images):
            target = out / f"{done.id}-{index:02d}.png"
            sha256 = context.client.download_requested_sample(job_id, done.id, index, target)
            text = f"  {target}   step {done.step}: {image.prompt} (seed {image.seed})"
            known = {"path": str(target), "prompt": image.prompt, "seed": image.seed}
            context.reporter.say("image", text, step=done.step, sha256=sha256, **known)


def metrics(
    job: JobArgument,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", metavar=FLAG, help="An event file for `tensorboard --logdir DIR`.")
    ] = False,
    out: OutOption = Path("out"),
    as_json: JsonOption = False,
) -> None:
    """Save a job's metrics as comma-separated values, or for TensorBoard."""
    with open_context(as_json) as context:
        found = context.client.get_job(find_job(context.client, job))
        if tensorboard:
            target = context.client.download_event_file(found.id, out / _stem(found))
        else:
            target = out / f"{_stem(found)}-metrics.csv"
            context.client.download_metrics(found.id, target)
        _say_saved(context, "metrics", target)


def report(job: JobArgument, out: OutOption = Path("out"), as_json: JsonOption = False) -> None:
    """Save a job's report: one HTML page with its plan, losses, samples and proofs, to be read without the service."""
    with open_context(as_json) as context:
        found = context.client.get_job(find_job(context.client, job))
        target = out / f"{_stem(found)}-report.html"
        context.client.download_report(found.id, target)
        _say_saved(context, "report", target)


def save_step(context: Context, job: Job, step: int, out: Path, adapter_format: AdapterFormat) -> None:
    """``<name>-<end of the id>-step-<n>.safetensors``, or with ``-diffusers`` before its ending."""
    ending = "" if adapter_format == "kohya" else f"-{adapter_format}"
    target = out / f"{_stem(job)}-step-{step}{ending}.safetensors"
    sha256 = context.client.download_adapter(job.id, target, adapter_format, step=step)
    size = target.stat().st_size
    text = f"Adapter  {target} ({size / 1e6:.1f} MB)"
    context.reporter.say("adapter", text, path=str(target), sha256=sha256, size=size, format=adapter_format, step=step)


def _stem(job: Job) -> str:
    """With the end of its id: several jobs may have one name."""
    return f"{file_name(job.name)}-{job.id[-6:]}"


def _say_saved(context: Context, what: str, target: Path) -> None:
    context.reporter.say(what, f"{what.capitalize()}  {target}", path=str(target), size=target.stat().st_size)


def register(app: App, panel: str) -> None:
    for command in (steps, promote, sample, metrics, report):
        app.command(rich_help_panel=panel)(command)
