"""`atelier datasets`: list, fetch, revise, download, delete. Without a subcommand it lists. `atelier train` makes them
of files on this machine."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from atelier_client.models import Dataset, DatasetLayout
from cli.app import FLAG, App
from cli.context import Context, JsonOption, LimitOption, list_unless_asked, open_context, show_all
from cli.errors import UsageError
from cli.ids import find_dataset
from cli.specs import read_spec
from cli.tables import print_datasets
from cli.training import file_name
from core.domain.counts import counted

datasets = App(
    invoke_without_command=True, help="List, fetch, revise, download and delete the sets that jobs learn from."
)

DatasetArgument = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's id, or a prefix of it.")]
REVISE_OPTIONS = {
    "/exclude": "--exclude",
    "/find_replace": "--find",
    "/remove_tags": "--remove-tag",
    "/add_tags": "--add-tag",
    "/prefix": "--prefix",
    "/suffix": "--suffix",
    "/name": "--name",
}


@datasets.callback()
def list_by_default(context: typer.Context, as_json: JsonOption = False) -> None:
    list_unless_asked(context, list_datasets, as_json)


@datasets.command("list")
def list_datasets(limit: LimitOption = 20, as_json: JsonOption = False) -> None:
    """List datasets, newest first."""
    with open_context(as_json) as context:
        show_all(list(itertools.islice(context.client.list_datasets(), limit)), as_json, print_datasets)


@datasets.command("fetch")
def fetch_dataset(
    urls: Annotated[
        list[str] | None, typer.Argument(metavar="[URL...]", help="Images, captions and archives; may be several.")
    ] = None,
    urls_file: Annotated[
        Path | None, typer.Option("--urls", metavar="FILE", help="A text file with more of them, one a line.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="By default none.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a dataset of files that the service fetches from addresses. What it cannot fetch is listed."""
    with open_context(as_json, {"/urls": "URL", "/name": "--name"}) as context:
        wanted = [*(urls or ()), *(read_urls(urls_file) if urls_file else ())]
        if not wanted:
            raise UsageError("Give at least one address, or a file of them with --urls.")
        made = latest = context.client.fetch_dataset(wanted, name=name)
        context.reporter.say("dataset", f"Dataset {made.id} is being fetched.", id=made.id, status=made.status)

        def hear(update: Dataset) -> None:
            nonlocal latest
            latest = update

        def describe() -> str:
            return f"{latest.num_files} of {counted(latest.num_sources, 'file')}" if latest.num_sources else ""

        with context.reporter.waiting("Fetching", describe):
            made = context.client.wait_for_dataset(
                made.id, on_waiting=lambda why: context.reporter.warn("waiting", why), on_update=hear
            )
        report_revision(context, made)


def read_urls(path: Path) -> list[str]:
    """Raises UsageError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text: {error}") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


@datasets.command("revise")
def revise_dataset(
    dataset: DatasetArgument,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="IMAGE", help="Leave this image out; repeatable.")
    ] = None,
    find: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A text in captions, each with its --replace; repeatable.")
    ] = None,
    replace: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="What to put in place of --find.")] = None,
    whole_word: Annotated[
        bool, typer.Option("--whole-word", metavar=FLAG, help="Find no text within a longer word.")
    ] = False,
    ignore_case: Annotated[
        bool, typer.Option("--ignore-case", metavar=FLAG, help="Find texts in upper and lower case.")
    ] = False,
    remove_tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Remove a tag from captions with commas; repeatable.")
    ] = None,
    add_tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="Add a tag to captions; repeatable.")] = None,
    front: Annotated[bool, typer.Option("--front", metavar=FLAG, help="Put --add-tag before the captions.")] = False,
    prefix: Annotated[str | None, typer.Option(metavar="TEXT", help="Put directly before each caption.")] = None,
    suffix: Annotated[str | None, typer.Option(metavar="TEXT", help="Put directly after each caption.")] = None,
    edits: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Edits in YAML or JSON, captions and crop too; options win over it."),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="By default the dataset's own.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new dataset from a ready one, with edits. The images are shared, and the old dataset stays."""
    with open_context(as_json, REVISE_OPTIONS) as context:
        given: dict[str, Any] = {
            "exclude": exclude,
            "find_replace": pair_rules(find or (), replace or (), whole_word=whole_word, ignore_case=ignore_case),
            "remove_tags": remove_tag,
            "add_tags": {"tags": add_tag, "position": "front" if front else "back"} if add_tag else None,
            "prefix": prefix,
            "suffix": suffix,
            "name": name,
        }
        chosen = {field: value for field, value in given.items() if value}
        asked = {**(read_spec(edits) if edits else {}), **chosen}
        made = context.client.revise_dataset(find_dataset(context.client, dataset), asked)
        report_revision(context, finish_revision(context, made))


def pair_rules(
    find: Sequence[str], replace: Sequence[str], *, whole_word: bool, ignore_case: bool
) -> list[dict[str, Any]]:
    """Raises UsageError."""
    if len(find) != len(replace):
        raise UsageError('Each --find needs one --replace; --replace "" removes the text.')
    how = {"whole_word": whole_word, "ignore_case": ignore_case}
    return [{"find": text, "replace": other, **how} for text, other in zip(find, replace, strict=True)]


def finish_revision(context: Context, made: Dataset) -> Dataset:
    """Waits for images that are cropped."""
    if made.status != "validating":
        return made
    with context.reporter.waiting("Cropping images"):
        return context.client.wait_for_dataset(made.id, on_waiting=lambda why: context.reporter.warn("waiting", why))


def report_revision(context: Context, made: Dataset) -> None:
    report = made.report.model_dump(mode="json") if made.report else None
    for item in made.report.left_out if made.report else ():
        context.reporter.warn("left_out", f"{item.file}: {item.reason}", file=item.file)
    text = f"Dataset {made.id} is {made.status}: {counted(made.num_images or 0, 'image')}."
    context.reporter.say("dataset", text, id=made.id, status=made.status, parent=made.parent, report=report)


@datasets.command("download")
def download_dataset(
    dataset: DatasetArgument,
    layout: Annotated[
        DatasetLayout, typer.Option(metavar="LAYOUT", help="`kohya` for sd-scripts, or `imagefolder`.")
    ] = "kohya",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the .zip goes.")] = Path("out"),
    as_json: JsonOption = False,
) -> None:
    """Download a dataset's images and captions as a .zip."""
    with open_context(as_json) as context:
        found = context.client.get_dataset(find_dataset(context.client, dataset))
        target = out / f"{file_name(found.name or '', found.id)}-{layout}.zip"
        with context.reporter.waiting("Downloading"):
            sha256 = context.client.download_dataset(found.id, target, layout)
        size = target.stat().st_size
        text = f"Dataset  {target} ({size / 1e6:.1f} MB)"
        context.reporter.say("file", text, path=str(target), sha256=sha256, size=size, layout=layout)


@datasets.command("delete")
def delete_dataset(dataset: DatasetArgument, as_json: JsonOption = False) -> None:
    """Delete a dataset with its images. Delete the jobs that use it first. Its revisions keep what they share."""
    with open_context(as_json) as context:
        dataset_id = find_dataset(context.client, dataset)
        context.client.delete_dataset(dataset_id)
        context.reporter.say("deleted", f"Dataset {dataset_id} is deleted.", id=dataset_id)
