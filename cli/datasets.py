"""`atelier datasets`: list, delete. Without a subcommand it lists. `atelier train` makes them."""

import itertools
from typing import Annotated

import typer

from cli.commands import JsonOption, converse, list_unless_asked, show_all
from cli.tables import print_datasets

datasets = typer.Typer(invoke_without_command=True, help="Find and delete the sets of images that jobs learn from.")


@datasets.callback()
def list_by_default(context: typer.Context, as_json: JsonOption = False) -> None:
    list_unless_asked(context, list_datasets, as_json)


@datasets.command("list")
def list_datasets(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20, as_json: JsonOption = False
) -> None:
    """List datasets, newest first."""
    with converse(as_json) as talk:
        show_all(list(itertools.islice(talk.client.list_datasets(), limit)), as_json, print_datasets)


@datasets.command("delete")
def delete_dataset(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's id.")], as_json: JsonOption = False
) -> None:
    """Delete a dataset with its images. The jobs that were made from it go first."""
    with converse(as_json) as talk:
        talk.client.delete_dataset(dataset)
        talk.reporter.say("deleted", f"Dataset {dataset} is deleted.", id=dataset)
