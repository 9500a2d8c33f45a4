"""The client commands: `atelier train`, `jobs`, `show`, `watch`, `cancel`, `pause`, `resume`, `delete`, `download`.

Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted (the job goes on).
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from atelier_client import AtelierClient
from atelier_client.models import AdapterFormat, Job
from cli.app import FLAG, App
from cli.context import FAILED, JsonOption, LimitOption, open_context, show_all
from cli.ids import find_job, find_model
from cli.invocation import hint
from cli.progress import describe_end
from cli.reporting import Reporter
from cli.specs import read_spec
from cli.steps import save_step
from cli.tables import describe_measures, print_job, print_jobs
from cli.training import TrainRequest, collect, follow, show_plan, train

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or a prefix of it.")]

TRAIN_OPTIONS = ("model", "trigger", "steps", "seed", "name")
TRAIN_EXAMPLE = """Example: atelier train ./images --trigger "blip" --model tiny --steps 300

Every other option of a training goes into a file given with --spec, in YAML or JSON, such as `adapter: {rank: 16}`;
docs/training.md lists them, and so does /docs of the running service."""


def finish(job: Job, reporter: Reporter, *, is_downloaded: bool = False) -> NoReturn:
    """Says how the job ended and how to get its file, and exits accordingly."""
    result = {"job": job.id, "status": job.status, "error": job.error.model_dump(mode="json") if job.error else None}
    if job.status != "succeeded":
        reporter.fail(describe_end(job), **result)
        raise typer.Exit(FAILED)
    lines = [describe_end(job)]
    if measures := describe_measures(job.result or {}):
        lines.append(f"  measured:      {measures}")
    if not is_downloaded:
        lines.append(f"  get the file:  {hint('download', job.id)}")
    reporter.say("done", "\n".join(lines), **result)
    raise typer.Exit(0)


def train_command(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A folder of images with their captions, or an archive of one.")
    ],
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The base to train on.  [default: tiny, the bundled one]")
    ] = None,
    trigger: Annotated[
        str | None,
        typer.Option(metavar="WORDS", help="The phrase that calls the concept in prompts. Needed without captions."),
    ] = None,
    spec: Annotated[
        Path | None, typer.Option(metavar="FILE", help="More options, in YAML or JSON; those given here win over it.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Training steps; by default chosen from the number of images.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="The same seed gives the same adapter.")] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The adapter's name.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the adapter and its sample grid go.")] = Path("out"),
    again: Annotated[
        bool,
        typer.Option(
            "--upload-again", metavar=FLAG, help="Send the files even if the service has a dataset of the same ones."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            metavar=FLAG,
            help="Upload the images and show the plan, its time and any warnings; train nothing.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train an adapter on a folder of images, and download it."""
    given = dict(zip(TRAIN_OPTIONS, (model, trigger, steps, seed, name), strict=True))
    given = {field: value for field, value in given.items() if value is not None}
    with open_context(as_json, {f"/{field}": f"--{field}" for field in given}) as context:
        asked = {**(read_spec(spec) if spec else {}), **given}
        if "model" not in asked:
            text = "Training on tiny, the bundled base, which draws emoji at 64x64 pixels. Choose another with --model."
            context.reporter.warn("model", text)
        fields: dict[str, Any] = {"model": "tiny", **asked}
        if model is not None:
            fields["model"] = find_model(context.client, model)
        request = TrainRequest(path, fields, out, upload_again=again)
        if dry_run:
            show_plan(context.client, request, context.reporter)
            return
        finish(train(context.client, request, context.reporter), context.reporter, is_downloaded=True)


def jobs(
    status: Annotated[str | None, typer.Option(metavar="STATE", help="Only jobs in this state.")] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Only jobs on this base.")] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="Only jobs with it in name, trigger or id.")] = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    with open_context(as_json) as context:
        wanted = None if model is None else find_model(context.client, model)
        found = list(itertools.islice(context.client.list_jobs(status=status, model=wanted, text=text), limit))
        show_all(found, as_json, print_jobs)


def show(job: JobArgument, as_json: JsonOption = False) -> None:
    """Show one job."""
    with open_context(as_json) as context:
        found = context.client.get_job(find_job(context.client, job))
        show_all([found], as_json, lambda rows: print_job(rows[0]))


def watch(job: JobArgument, as_json: JsonOption = False) -> None:
    """Follow a job to its end. Ctrl-C stops the watching, not the job."""
    with open_context(as_json) as context:
        found = context.client.get_job(find_job(context.client, job))
        ended = found if found.is_terminal else follow(context.client, found, context.reporter)
        finish(ended, context.reporter)


def cancel(job: JobArgument, as_json: JsonOption = False) -> None:
    """End a job for good. A paused job can be resumed; a canceled one cannot."""
    change_job(AtelierClient.cancel_job, job, as_json)


def delete(job: JobArgument, as_json: JsonOption = False) -> None:
    """Delete a job that has ended, with its files and its adapter."""
    with open_context(as_json) as context:
        job_id = find_job(context.client, job)
        context.client.delete_job(job_id)
        context.reporter.say("deleted", f"Job {job_id} is deleted.", id=job_id)


def pause(job: JobArgument, as_json: JsonOption = False) -> None:
    """Have a job write a checkpoint and make room for others."""
    change_job(AtelierClient.pause_job, job, as_json)


def resume(job: JobArgument, as_json: JsonOption = False) -> None:
    """Put a paused job back into the queue."""
    change_job(AtelierClient.resume_job, job, as_json)


def change_job(change: Callable[[AtelierClient, str], Job], typed: str, as_json: bool) -> None:
    with open_context(as_json) as context:
        job = change(context.client, find_job(context.client, typed))
        context.reporter.say("job", f"Job {job.id} is {job.status}.", id=job.id, status=job.status)


def download(
    job: JobArgument,
    adapter_format: Annotated[
        AdapterFormat,
        typer.Option("--format", metavar="kohya|diffusers", help="kohya: for A1111, Forge, ComfyUI and sd-scripts."),
    ] = "kohya",
    step: Annotated[
        int | None, typer.Option(metavar="N", help="Another step's adapter; `atelier steps JOB` lists them.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where they go.")] = Path("out"),
    as_json: JsonOption = False,
) -> None:
    """Download a finished job's adapter and its sample grid, or the adapter of one of its steps."""
    with open_context(as_json, {"/query/step": "--step"}) as context:
        found = context.client.get_job(find_job(context.client, job))
        if step is not None:
            save_step(context, found, step, out, adapter_format)
            return
        collect(context.client, found, out, context.reporter, adapter_format)


def register(app: App, panel: str) -> None:
    """Adds the client commands to the `atelier` command."""
    app.command("train", rich_help_panel=panel, epilog=TRAIN_EXAMPLE)(train_command)
    for command in (jobs, show, watch, cancel, pause, resume, delete, download):
        app.command(rich_help_panel=panel)(command)
