"""`atelier generate`: draws images with adapters, and saves them."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from atelier_client import AtelierClient, GenerationEnded
from atelier_client.generations import Generation
from cli.app import App
from cli.context import FAILED, Context, JsonOption, open_context
from cli.errors import UsageError
from cli.ids import find_adapter, find_job, find_model
from cli.reporting import Reporter
from core.domain.counts import counted

EXAMPLE = """Example: atelier generate "a large blip on blue" --adapter ad_01j9z3k8:0.8 --num-images 4

Without --model the images are drawn on the base of the first adapter, or on tiny without any."""

FIELDS = {
    "model": "--model", "prompts": "PROMPT", "adapters": "--adapter", "negative_prompt": "--negative",
    "num_images": "--num-images", "seed": "--seed", "num_steps": "--steps", "guidance_scale": "--guidance",
    "width": "--width", "height": "--height",
}  # fmt: skip


def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to draw; may be several.")],
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADAPTER[:WEIGHT]",
            help="Its id, or a prefix of it; JOB@STEP for a step that a job has kept. May be given up to five times.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="The base to draw with.")] = None,
    negative: Annotated[str, typer.Option(metavar="TEXT", help="What to lead away from.")] = "",
    num_images: Annotated[int, typer.Option(metavar="N", help="Images for each prompt.")] = 1,
    seed: Annotated[int, typer.Option(metavar="N", help="The first image's; the others' follow.")] = 0,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Denoising steps; by default the base's.")] = None,
    guidance: Annotated[float | None, typer.Option(metavar="SCALE", help="By default the base's.")] = None,
    width: Annotated[int | None, typer.Option(metavar="PIXELS", help="By default the base's.")] = None,
    height: Annotated[int | None, typer.Option(metavar="PIXELS", help="By default the base's.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the images go.")] = Path("out"),
    as_json: JsonOption = False,
) -> None:
    """Draw images with adapters, and save them as PNG files."""
    options = {f"/{field}": option for field, option in FIELDS.items()}
    with open_context(as_json, options) as context:
        stack = [_find(context.client, typed) for typed in adapter or ()]
        asked = {
            "model": _choose_model(context.client, model, stack),
            "prompts": prompts,
            "adapters": stack,
            "negative_prompt": negative,
            "num_images": num_images,
            "seed": seed,
            "num_steps": steps,
            "guidance_scale": guidance,
            "width": width,
            "height": height,
        }
        made = context.client.create_generation(asked)
        context.reporter.say("generation", f"Generation {made.id} is {made.status}.", id=made.id, status=made.status)
        _save(context, _follow(context, made), out)


def _find(client: AtelierClient, typed: str) -> dict[str, Any]:
    adapter_id, colon, typed_weight = typed.partition(":")
    try:
        weight = float(typed_weight) if colon else 1.0
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise UsageError(f"{typed_weight!r} is not a weight: write --adapter {adapter_id}:0.8.")
    job_id, at, typed_step = adapter_id.partition("@")
    if not at:
        return {"id": find_adapter(client, adapter_id), "weight": weight}
    if not (typed_step.isascii() and typed_step.isdigit()):
        raise UsageError(f"{typed_step!r} is not a step: write --adapter {job_id}@100.")
    return {"job": find_job(client, job_id), "step": int(typed_step), "weight": weight}


def _choose_model(client: AtelierClient, typed: str | None, stack: list[dict[str, Any]]) -> str:
    if typed is not None:
        return find_model(client, typed)
    if not stack:
        return "tiny"
    first = stack[0]
    return client.get_job(first["job"]).model if "job" in first else client.get_adapter(first["id"]).model


def _follow(context: Context, made: Generation) -> Generation:
    latest = made

    def hear(update: Generation) -> None:
        nonlocal latest
        latest = update

    with context.reporter.waiting("Drawing", lambda: _describe(latest)):
        try:
            return context.client.wait_for_generation(made.id, on_update=hear)
        except GenerationEnded as error:
            context.reporter.fail(str(error), id=made.id, status=error.generation.status)
            raise typer.Exit(FAILED) from error


def _describe(generation: Generation) -> str:
    if generation.waiting_reason and generation.status == "queued":
        return generation.waiting_reason
    return f"{generation.num_drawn} of {counted(generation.num_total, 'image')}"


def _save(context: Context, done: Generation, out: Path) -> None:
    reporter: Reporter = context.reporter
    for image in done.images:
        target = out / f"{done.id}-{image.index:02d}.png"
        context.client.download_generated_image(done.id, image.index, target)
        text = f"  {target}   {image.prompt} (seed {image.seed})"
        reporter.say("image", text, path=str(target), prompt=image.prompt, seed=image.seed, sha256=image.sha256)


def register(app: App, panel: str) -> None:
    app.command(rich_help_panel=panel, epilog=EXAMPLE)(generate)
