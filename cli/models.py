"""`atelier models`: list, add, show, rm. Without a subcommand it lists."""

import os
from pathlib import Path
from typing import Annotated, get_args

import typer

from atelier_client import ApiError, ModelUnusable
from atelier_client.models import Model
from cli.app import App
from cli.bases import Placed, Placement, remove, remove_stale
from cli.connection import find_models_path
from cli.context import INTERRUPTED, Context, JsonOption, list_unless_asked, open_context, show_all
from cli.ids import find_model
from cli.invocation import hint
from cli.tables import print_model, print_models
from core.domain.model import HUB_EXAMPLE, PredictionType, name_families
from core.model_folders import CARD

models = App(invoke_without_command=True, help="Add, list and remove the bases that can be trained on.")

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="The base's id, or a prefix of it.")]
ADD_EXAMPLES = f"""Examples: atelier models add ./v1-5-pruned-emaonly.safetensors --id sd15

atelier models add {HUB_EXAMPLE[0]} --id {HUB_EXAMPLE[1]}

docs/bases.md has more: what each family needs in disk, memory and time, and how gated repositories are opened."""


@models.callback()
def list_by_default(context: typer.Context, as_json: JsonOption = False) -> None:
    list_unless_asked(context, list_models, as_json)


@models.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the bases that can be trained on."""
    with open_context(as_json) as context:
        show_all(list(context.client.list_models()), as_json, print_models)


@models.command(
    "add",
    epilog=ADD_EXAMPLES,
    help=f"Register a base ({name_families('or')}), and wait until it is ready to be trained on.",
)
def add_model(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PATH|HUB_ID",
            help="A folder in diffusers' layout, a .safetensors file, or a repository of the Hub.",
        ),
    ],
    model_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="How jobs will call it; by default from the source's name.")
    ] = None,
    prediction_type: Annotated[
        str | None,
        typer.Option(metavar="|".join(get_args(PredictionType)), help="For a single file that does not say it."),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Of a single file, where it is not its family's own.")
    ] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="Shown in lists.")] = None,
    as_json: JsonOption = False,
) -> None:
    options = {"/path": "PATH", "/hub_id": "HUB_ID", "/id": "--id", "/prediction_type": "--prediction-type"}
    options |= {"/resolution": "--resolution", "/description": "--description"}
    given = {"prediction_type": prediction_type, "resolution": resolution, "description": description}
    extra = {field: value for field, value in given.items() if value is not None}
    with open_context(as_json, options) as context:
        models_path = find_models_path(os.environ, context.connection.url)
        placement = Placement(source, models_path, context.connection.url, model_id, extra)
        if models_path is not None:
            remove_stale(models_path)
        with context.reporter.waiting(f"Bringing {source} into the models directory"):
            placed = placement.place()
        report_ready(context, register(context, placed, models_path))


def register(context: Context, placed: Placed, models_path: Path | None) -> Model:
    """What was brought into the models directory for a base that is refused or rejected is taken away again. It stays
    if the connection breaks: the worker goes on with it."""
    try:
        model = context.client.register_model(placed.source)
        if model.status == "checking":
            model = wait_until_ready(context, model, models_path)
    except ModelUnusable:
        remove(placed.made)
        raise
    except ApiError as error:
        if error.problem.status < 500:
            remove(placed.made)
        raise
    remove(placed.on_success)
    return model


def wait_until_ready(context: Context, model: Model, models_path: Path | None) -> Model:
    """A worker prepares it: converts a single file, fetches from the Hub, or looks at a folder."""
    context.reporter.say("model", f"Model {model.id} is being prepared.", id=model.id, status=model.status)
    try:
        with context.reporter.waiting(f"Preparing {model.id}", lambda: describe_partial(models_path, model.id)):
            return context.client.wait_for_model(model.id)
    except ModelUnusable as error:
        raise ModelUnusable(f"Model {model.id} was rejected. {error}", error.model) from error
    except KeyboardInterrupt:
        text = (
            f"Interrupted; {model.id} is still being prepared. See what came of it: {hint('models', 'show', model.id)}"
        )
        context.reporter.say("interrupted", text, id=model.id)
        raise typer.Exit(INTERRUPTED) from None


def describe_partial(models_path: Path | None, model_id: str) -> str:
    """What the worker has written so far, where its models directory is this machine's."""
    if models_path is None:
        return ""
    folders = (models_path / f".{model_id}.partial", models_path / f".{model_id}.partial.cache")
    size = sum(_size(file) for folder in folders for file in folder.rglob("*"))
    return f"{size / 1e9:.2f} GB written" if size else ""


def _size(path: Path) -> int:
    """0 for what has just gone."""
    try:
        status = path.lstat()
    except OSError:
        return 0
    return status.st_size if path.is_file() and not path.is_symlink() else 0


def report_ready(context: Context, model: Model) -> None:
    text = (
        f"Model {model.id} is ready: {model.family}, {model.resolution} pixels.\n"
        f"  train on it:  {hint('train', 'FOLDER', '--trigger', 'WORD', '--model', model.id)}"
    )
    context.reporter.say("model", text, **model.model_dump(mode="json"))


@models.command("show")
def show_model(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Show one base; of a rejected one, why."""
    with open_context(as_json) as context:
        found = context.client.get_model(find_model(context.client, model))
        show_all([found], as_json, lambda rows: print_model(rows[0]))


@models.command("rm")
def remove_model(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Take a base off the list: a rejected one, or one that no job (an ended one neither) and no adapter was made with.

    The whole id has to be given.
    """
    with open_context(as_json) as context:
        model_id = model
        context.client.delete_model(model_id)
        left = find_left_folder(find_models_path(os.environ, context.connection.url), model_id)
        advice = f" Its files are still in {left}, for the service did not put them there: delete them if you want to."
        text = f"Model {model_id} is removed.{advice if left else ''}"
        context.reporter.say("deleted", text, id=model_id, folder=str(left) if left else None)


def find_left_folder(models_path: Path | None, model_id: str) -> Path | None:
    """The prepared folder of a base, where it lies on this machine under the base's id."""
    folder = models_path / model_id if models_path else None
    return folder if folder and (folder / CARD).is_file() else None
