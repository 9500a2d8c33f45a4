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

AXIS_HELP = (
    "Columns of a labelled sheet: weight, step, adapter, seed, guidance_scale or num_steps, and its values. A weight, "
    "step or adapter is the first --adapter's; weight.1 is the second's."
)

EXAMPLE = """Example: atelier generate "a large blip on blue" --adapter ad_01j9z3k8:0.8 --num-images 4

Without --model the images are drawn on the base of the first adapter, or on tiny without any."""

FIELDS = {
    "model": "--model", "prompts": "PROMPT", "adapters": "--adapter", "negative_prompt": "--negative",
    "num_images": "--num-images", "seed": "--seed", "num_steps": "--steps", "guidance_scale": "--guidance",
    "width": "--width", "height": "--height", "grid/x": "--x", "grid/y": "--y", "grid": "--x",
}  # fmt: skip


def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT", help="What to draw; may be several.")],
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
    x: Annotated[str | None, typer.Option(metavar="FIELD=V,V", help=AXIS_HELP)] = None,
    y: Annotated[str | None, typer.Option(metavar="FIELD=V,V", help="Rows: a second setting.")] = None,
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
            **({"grid": _read_grid(context.client, x, y)} if x or y else {}),
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


def _read_grid(client: AtelierClient, x: str | None, y: str | None) -> dict[str, Any]:
    if x is None:
        raise UsageError("--y needs --x: the columns of the sheet.")
    return {"x": _read_axis(client, "--x", x)} | ({} if y is None else {"y": _read_axis(client, "--y", y)})


def _read_axis(client: AtelierClient, option: str, typed: str) -> dict[str, Any]:
    name, equals, listed = typed.partition("=")
    field, dot, entry = name.partition(".")
    values = [value.strip() for value in listed.split(",") if value.strip()]
    if not (equals and values) or (dot and not entry.isdecimal()):
        raise UsageError(f"{typed!r} is not a setting with values: write {option} weight=0.4,0.8,1.2.")
    if field == "adapter":
        parsed: list[Any] = [find_adapter(client, value) for value in values]
    else:
        parsed = [_read_number(option, value) for value in values]
    return {"field": field, "values": parsed, **({"entry": int(entry)} if dot else {})}


def _read_number(option: str, typed: str) -> int | float:
    try:
        return int(typed)
    except ValueError:
        pass
    try:
        number = float(typed)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{typed!r} is not a number: write {option} weight=0.4,0.8,1.2.")
    return number


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

    for sheet in done.sheets:
        target = out / f"{done.id}-sheet-{sheet.prompt}.png"
        context.client.download_generated_sheet(done.id, sheet.prompt, target)
        prompt = done.prompts[sheet.prompt]
        reporter.say("sheet", f"  {target}   {prompt}", path=str(target), prompt=prompt, sha256=sheet.sha256)


def register(app: App, panel: str) -> None:
    app.command(rich_help_panel=panel, epilog=EXAMPLE)(generate)
