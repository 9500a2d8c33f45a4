"""`atelier adapters`: list, show, import, delete. Without a subcommand it lists."""

import itertools
from pathlib import Path
from typing import Annotated

import typer

from atelier_client import InputError
from cli.app import App
from cli.context import JsonOption, LimitOption, list_unless_asked, open_context, show_all
from cli.ids import find_adapter, find_model
from cli.invocation import hint
from cli.tables import print_adapter, print_adapters
from core.domain.counts import counted

adapters = App(invoke_without_command=True, help="List, show, import and delete adapters.")

AdapterArgument = Annotated[str, typer.Argument(metavar="ADAPTER", help="The adapter's id, or a prefix of it.")]


@adapters.callback()
def list_by_default(context: typer.Context, as_json: JsonOption = False) -> None:
    list_unless_asked(context, list_adapters, as_json)


@adapters.command("list")
def list_adapters(
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Only those for this base.")] = None,
    trigger: Annotated[str | None, typer.Option(metavar="WORDS", help="Only those with exactly this trigger.")] = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="Only those with this tag.")] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="Words in the name, description or trigger.")] = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """List adapters, newest first."""
    with open_context(as_json) as context:
        wanted = None if model is None else find_model(context.client, model)
        found = context.client.list_adapters(model=wanted, trigger=trigger, tag=tag, text=text)
        show_all(list(itertools.islice(found, limit)), as_json, print_adapters)


@adapters.command("show")
def show_adapter(adapter: AdapterArgument, as_json: JsonOption = False) -> None:
    """Show one adapter."""
    with open_context(as_json) as context:
        show_all(
            [context.client.get_adapter(find_adapter(context.client, adapter))],
            as_json,
            lambda rows: print_adapter(rows[0]),
        )


@adapters.command("import")
def import_adapter(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .safetensors file, in the format of kohya or diffusers.")
    ],
    model: Annotated[str, typer.Option(metavar="MODEL", help="The base that it was made for.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="By default the file's.")] = None,
    trigger: Annotated[str | None, typer.Option(metavar="WORDS", help="By default what the file says.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="May be given several times.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Import an adapter that was made elsewhere, and wait for its check."""
    options = {"/file": "FILE", "/model": "--model", "/name": "--name", "/trigger": "--trigger", "/tags": "--tag"}
    with open_context(as_json, options) as context:
        if not path.is_file():
            raise InputError(f"There is no file {path}.")
        with context.reporter.uploading(path.stat().st_size) as count:
            sent = context.client.import_adapter(
                path,
                find_model(context.client, model),
                name=name or path.stem,
                trigger=trigger,
                tags=tag or (),
                on_bytes=count,
            )
        context.reporter.say("adapter", f"Adapter {sent.id} is being checked.", id=sent.id, status=sent.status)
        with context.reporter.waiting("Checking the adapter"):
            ready = context.client.wait_for_adapter(
                sent.id, on_waiting=lambda why: context.reporter.warn("waiting", why)
            )
        if ready.num_ignored:
            was = "was" if ready.num_ignored == 1 else "were"
            first = f"{ready.ignored[0].key}: {ready.ignored[0].reason}"
            text = f"{counted(ready.num_ignored, 'tensor')} of the file {was} not taken over ({first}). All of them: "
            context.reporter.warn("ignored", text + hint("adapters", "show", ready.id))
        text = f"Adapter {ready.id} is ready: {ready.name}, {ready.type} of rank {ready.rank}."
        context.reporter.say("adapter", text, id=ready.id, status=ready.status)


@adapters.command("delete")
def delete_adapter(adapter: AdapterArgument, as_json: JsonOption = False) -> None:
    """Delete an imported adapter. A job's adapter is deleted with its job."""
    with open_context(as_json) as context:
        adapter_id = find_adapter(context.client, adapter)
        context.client.delete_adapter(adapter_id)
        context.reporter.say("deleted", f"Adapter {adapter_id} is deleted.", id=adapter_id)
