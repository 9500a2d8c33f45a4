"""`atelier datasets`: list, delete. Without a subcommand it lists. `atelier train` makes them."""

import itertools
from typing import Annotated

import typer

from cli.app import App
from cli.context import JsonOption, LimitOption, list_unless_asked, open_context, show_all
from cli.ids import find_dataset
from cli.tables import print_datasets

datasets = App(invoke_without_command=True, help="List and delete the sets of images that jobs learn from.")


@datasets.callback()
def list_by_default(context: typer.Context, as_json: JsonOption = False) -> None:
    list_unless_asked(context, list_datasets, as_json)


@datasets.command("list")
def list_datasets(limit: LimitOption = 20, as_json: JsonOption = False) -> None:
    """List datasets, newest first."""
    with open_context(as_json) as context:
        show_all(list(itertools.islice(context.client.list_datasets(), limit)), as_json, print_datasets)


@datasets.command("delete")
def delete_dataset(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's id, or a prefix of it.")],
    as_json: JsonOption = False,
) -> None:
    """Delete a dataset with its images. Delete the jobs that use it first."""
    with open_context(as_json) as context:
        dataset_id = find_dataset(context.client, dataset)
        context.client.delete_dataset(dataset_id)
        context.reporter.say("deleted", f"Dataset {dataset_id} is deleted.", id=dataset_id)
