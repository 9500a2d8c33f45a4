"""`atelier adapters`: list, show, import, delete. Without a subcommand it lists."""

import itertools
from pathlib import Path
from typing import Annotated

import typer

from cli.commands import JsonOption, converse, list_unless_asked, show_all
from cli.tables import print_adapter, print_adapters
from client import InputError

adapters = typer.Typer(invoke_without_command=True, help="Find, show, import and delete adapters.")

AdapterArgument = Annotated[str, typer.Argument(metavar="ADAPTER", help="The adapter's id.")]


@adapters.callback()
def list_by_default(context: typer.Context, as_json: JsonOption = False) -> None:
    list_unless_asked(context, list_adapters, as_json)


@adapters.command("list")
def list_adapters(
    model: Annotated[str | None, typer.Option(help="Only those for this base.")] = None,
    trigger: Annotated[str | None, typer.Option(help="Only those with this very trigger.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only those with this tag.")] = None,
    text: Annotated[str | None, typer.Option(help="Words in the name, description or trigger.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List adapters, newest first."""
    with converse(as_json) as talk:
        found = talk.client.list_adapters(model=model, trigger=trigger, tag=tag, text=text)
        show_all(list(itertools.islice(found, limit)), as_json, print_adapters)


@adapters.command("show")
def show_adapter(adapter: AdapterArgument, as_json: JsonOption = False) -> None:
    """Show one adapter."""
    with converse(as_json) as talk:
        show_all([talk.client.get_adapter(adapter)], as_json, lambda rows: print_adapter(rows[0]))


@adapters.command("import")
def import_adapter(
    path: Annotated[Path, typer.Argument(help="A .safetensors file of kohya's or diffusers' format.")],
    model: Annotated[str, typer.Option(help="The base that it is for.")],
    name: Annotated[str | None, typer.Option(help="By default the file's.")] = None,
    trigger: Annotated[str | None, typer.Option(help="By default what the file says.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="May be given several times.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Import an adapter that was made elsewhere, and wait for its check."""
    with converse(as_json) as talk:
        if not path.is_file():
            raise InputError(f"There is no file {path}.")
        sent = talk.client.import_adapter(path, model, name=name or path.stem, trigger=trigger, tags=tag or ())
        talk.reporter.say("adapter", f"Adapter {sent.id} is being checked.", id=sent.id, status=sent.status)
        ready = talk.client.wait_for_adapter(sent.id, on_setback=lambda why: talk.reporter.warn("setback", why))
        if ready.num_ignored:
            first = f"{ready.ignored[0].key} {ready.ignored[0].reason}" if ready.ignored else "see `adapters show`"
            talk.reporter.warn("ignored", f"{ready.num_ignored} tensors of the file were not taken over: {first}.")
        text = f"Adapter {ready.id} is ready: {ready.name}, {ready.type} of rank {ready.rank}."
        talk.reporter.say("adapter", text, id=ready.id, status=ready.status)


@adapters.command("delete")
def delete_adapter(adapter: AdapterArgument, as_json: JsonOption = False) -> None:
    """Delete an imported adapter. One that a job made goes with its job."""
    with converse(as_json) as talk:
        talk.client.delete_adapter(adapter)
        talk.reporter.say("deleted", f"Adapter {adapter} is deleted.", id=adapter)
