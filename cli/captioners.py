"""`atelier captioners`: list, add, show, rm. Without a subcommand it lists."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from atelier_client import ApiError, CaptionerUnusable
from atelier_client.captions import Captioner
from cli.app import App
from cli.bases import Placed, fill, name_folder, remove
from cli.connection import find_models_path
from cli.context import Context, JsonOption, list_unless_asked, open_context, show_all
from cli.errors import UsageError
from cli.ids import find_captioner
from cli.invocation import hint
from cli.tables import print_captioner, print_captioners
from core.domain.captioner import FOLDER
from core.domain.registration import HUB_ID_PATTERN
from core.model_folders import MADE_HERE, NOTE

captioners = App(invoke_without_command=True, help="Add, list and remove the models that write captions.")

CaptionerArgument = Annotated[str, typer.Argument(metavar="CAPTIONER", help="The captioner's id, or a prefix of it.")]
ADD_EXAMPLES = """Examples: atelier captioners add Salesforce/blip-image-captioning-base --id blip

atelier captioners add ./wd-tagger

docs/captions.md says what a captioner is, and names some."""


@captioners.callback()
def list_by_default(context: typer.Context, as_json: JsonOption = False) -> None:
    list_unless_asked(context, list_captioners, as_json)


@captioners.command("list")
def list_captioners(as_json: JsonOption = False) -> None:
    """List the models that write captions."""
    with open_context(as_json) as context:
        show_all(list(context.client.list_captioners()), as_json, print_captioners)


@captioners.command("add", epilog=ADD_EXAMPLES)
def add_captioner(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PATH|HUB_ID",
            help="A folder with a transformers model or an ONNX tagger, or a repository of the Hub.",
        ),
    ],
    captioner_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Its id; by default from the source's name.")
    ] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="Shown in lists.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Register a model that writes captions, and wait until a worker has tried it out."""
    options = {"/path": "PATH", "/hub_id": "HUB_ID", "/id": "--id", "/description": "--description"}
    with open_context(as_json, options) as context:
        extra = {"id": captioner_id, "description": description}
        given = {field: value for field, value in extra.items() if value is not None}
        with context.reporter.waiting(f"Bringing {source} into the models directory"):
            placed = place(source, find_models_path(os.environ, context.connection.url), captioner_id, given)
        captioner = register(context, placed)
        text = (
            f"Captioner {captioner.id} is ready: {captioner.kind}, {captioner.architecture}.\n"
            f"  caption with it:  {hint('caption', 'FOLDER', '--captioner', captioner.id)}"
        )
        context.reporter.say("captioner", text, **captioner.model_dump(mode="json"))


def place(typed: str, models_path: Path | None, captioner_id: str | None, extra: dict[str, Any]) -> Placed:
    """Links or copies a folder from elsewhere. Raises UsageError, and then leaves nothing behind."""
    path = Path(typed).expanduser()
    if models_path is None and path.exists():
        raise UsageError(
            f"{path.name} cannot be handed to the service: its models directory is not known here. Where the service "
            "runs on this machine, set ATELIER_HOME to its home; else copy the folder into the models directory there "
            f"and run this command with its name in that directory, outside of {path.absolute().parent}."
        )
    if models_path is None or not (path.exists() or (models_path / typed).exists()):
        field = "hub_id" if re.match(HUB_ID_PATTERN, typed) and not path.exists() else "path"
        return Placed({field: typed, **extra})
    path = (path if path.exists() else models_path / typed).resolve()
    if not path.is_dir():
        raise UsageError(f"{path.name} is a file: give the folder of a captioner.")
    if path.is_relative_to(models_path):
        return Placed({"path": str(path.relative_to(models_path)), **extra})
    name = captioner_id or name_folder(path)
    target = models_path / FOLDER / name
    if target.exists():
        raise UsageError(
            f"The models directory has a folder {FOLDER}/{name} already. Choose another name with --id, or register "
            f"that folder by `captioners add {FOLDER}/{name}`."
        )
    files = [(file, target / file.relative_to(path)) for file in sorted(path.rglob("*")) if is_of_captioner(path, file)]
    if not files:
        raise UsageError(f"{path} has no files: give the folder of a captioner.")
    fill(target, files)
    (target / NOTE).write_text(f"{MADE_HERE}: its files are links to those of {path}, or copies.\n")
    return Placed({"path": f"{FOLDER}/{name}", **extra}, (target,))


def is_of_captioner(folder: Path, file: Path) -> bool:
    parts = file.relative_to(folder).parts
    return file.is_file() and file.suffix != ".md" and not any(part.startswith(".") for part in parts)


def register(context: Context, placed: Placed) -> Captioner:
    """What was brought into the models directory is taken away again if it is refused or rejected."""
    try:
        made = context.client.register_captioner(placed.source)
        context.reporter.say("captioner", f"Captioner {made.id} is being tried out.", id=made.id, status=made.status)
        with context.reporter.waiting(f"Trying out {made.id}"):
            return context.client.wait_for_captioner(
                made.id, on_waiting=lambda why: context.reporter.warn("waiting", why)
            )
    except CaptionerUnusable as error:
        remove(placed.made)
        raise CaptionerUnusable(f"Captioner {error.captioner.id} was rejected. {error}", error.captioner) from error
    except ApiError as error:
        if error.problem.status < 500:
            remove(placed.made)
        raise


@captioners.command("show")
def show_captioner(captioner: CaptionerArgument, as_json: JsonOption = False) -> None:
    """Show one captioner; of a rejected one, why."""
    with open_context(as_json) as context:
        found = context.client.get_captioner(find_captioner(context.client, captioner))
        show_all([found], as_json, lambda rows: print_captioner(rows[0]))


@captioners.command("rm")
def remove_captioner(captioner: CaptionerArgument, as_json: JsonOption = False) -> None:
    """Take a captioner off the list. The whole id has to be given."""
    with open_context(as_json) as context:
        context.client.delete_captioner(captioner)
        context.reporter.say("deleted", f"Captioner {captioner} is removed.", id=captioner)
