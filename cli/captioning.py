"""`atelier caption`: has a captioner write captions for a dataset."""

from pathlib import Path
from typing import Annotated, Any

import typer

from atelier_client import CaptioningEnded, select_files
from atelier_client.captions import Captioning
from atelier_client.models import Dataset
from cli.app import FLAG, App
from cli.context import FAILED, INTERRUPTED, Context, JsonOption, open_context
from cli.errors import UsageError
from cli.ids import find_captioner, find_dataset
from cli.invocation import hint
from cli.training import provide_dataset
from core.domain.counts import counted

EXAMPLE = """Example: atelier caption ./images --captioner blip --prefix "blip, " --only-missing

The captions come as a new dataset. Read them with `atelier datasets download`, change them with `atelier datasets
revise`, and train on it."""

FIELDS = {
    "captioner": "--captioner", "prompt": "--prompt", "prefix": "--prefix", "suffix": "--suffix",
    "only_missing": "--only-missing", "threshold": "--threshold", "name": "--name",
}  # fmt: skip


def caption(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET|PATH", help="A dataset's id, or a folder or archive of images to upload.")
    ],
    captioner: Annotated[
        str | None, typer.Option(metavar="CAPTIONER", help="Its id; may be left out if there is only one.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What to ask a captioner that takes prompts.")
    ] = None,
    prefix: Annotated[str | None, typer.Option(metavar="TEXT", help="Put directly before each new caption.")] = None,
    suffix: Annotated[str | None, typer.Option(metavar="TEXT", help="Put directly after each new caption.")] = None,
    only_missing: Annotated[
        bool, typer.Option("--only-missing", metavar=FLAG, help="Leave images that have a caption as they are.")
    ] = False,
    threshold: Annotated[
        float | None, typer.Option(metavar="SCORE", help="Of a tagger: from which score a tag counts.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The new dataset's; by default the same.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write captions for a dataset. They come as a new dataset that shares the images."""
    with open_context(as_json, {f"/{field}": option for field, option in FIELDS.items()}) as context:
        given = {"prompt": prompt, "prefix": prefix, "suffix": suffix, "threshold": threshold, "name": name}
        spec: dict[str, Any] = {
            "captioner": choose_captioner(context, captioner),
            "only_missing": only_missing,
            **{field: value for field, value in given.items() if value is not None},
        }
        made = context.client.caption_dataset(find_or_upload(context, dataset), spec)
        text = f"Captioning {made.id} is {made.status}: {counted(made.num_images, 'image')}."
        context.reporter.say("captioning", text, **made.model_dump(mode="json"))
        report(context, follow(context, made))


def choose_captioner(context: Context, typed: str | None) -> str:
    """Raises UsageError."""
    if typed is not None:
        return find_captioner(context.client, typed)
    ready = [captioner.id for captioner in context.client.list_captioners() if captioner.status == "ready"]
    if len(ready) == 1:
        return ready[0]
    if not ready:
        raise UsageError(f"There is no captioner. Add one: {hint('captioners', 'add', 'FOLDER_OR_HUB_ID')}")
    raise UsageError(f"There are several captioners: {', '.join(ready)}. Choose one with --captioner.")


def find_or_upload(context: Context, typed: str) -> str:
    path = Path(typed).expanduser()
    if not path.exists():
        return find_dataset(context.client, typed)
    return provide_dataset(context.client, select_files(path), context.reporter).id


def follow(context: Context, made: Captioning) -> Dataset:
    latest = made

    def hear(update: Captioning) -> None:
        nonlocal latest
        latest = update

    with context.reporter.waiting("Captioning", lambda: describe(latest)):
        try:
            return context.client.wait_for_captioning(made.id, on_update=hear)
        except CaptioningEnded as error:
            context.reporter.fail(str(error), id=made.id, status=error.captioning.status)
            raise typer.Exit(FAILED) from error
        except KeyboardInterrupt:
            context.client.cancel_captioning(made.id)
            text = "Interrupted; the captioning is canceled. What was written by then is used again by the next one."
            context.reporter.say("interrupted", text, id=made.id)
            raise typer.Exit(INTERRUPTED) from None


def describe(captioning: Captioning) -> str:
    if captioning.waiting_reason and captioning.status == "queued":
        return captioning.waiting_reason
    return f"{captioning.num_done} of {counted(captioning.num_images, 'image')}"


def report(context: Context, revision: Dataset) -> None:
    lines = [
        f"Dataset {revision.id} has the captions.",
        f"  read them:    {hint('datasets', 'download', revision.id)}",
        f"  change them:  {hint('datasets', 'revise', revision.id, '--find', 'TEXT', '--replace', 'TEXT')}",
    ]
    context.reporter.say("dataset", "\n".join(lines), **revision.model_dump(mode="json"))


def register(app: App, panel: str) -> None:
    app.command(rich_help_panel=panel, epilog=EXAMPLE)(caption)
