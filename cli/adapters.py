"""`atelier adapters`: list, search, show, edit, import, merge, resize, check, delete. Without a subcommand it lists."""

import itertools
import re
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from atelier_client import AtelierClient, InputError
from atelier_client.models import Adapter
from cli.app import App
from cli.context import Context, JsonOption, LimitOption, list_unless_asked, open_context, show_all
from cli.errors import UsageError
from cli.ids import find_adapter, find_model
from cli.invocation import hint
from cli.tables import describe_conversion, print_adapter, print_adapters, print_check
from core.domain.counts import counted

adapters = App(invoke_without_command=True, help="List, search, show, edit, import, merge, check and delete adapters.")


class MergeMethod(StrEnum):
    CONCAT = "concat"
    SVD = "svd"


AdapterArgument = Annotated[str, typer.Argument(metavar="ADAPTER", help="The adapter's id, or a prefix of it.")]


@adapters.callback()
def list_by_default(context: typer.Context, as_json: JsonOption = False) -> None:
    list_unless_asked(context, list_adapters, as_json)


@adapters.command("list")
def list_adapters(
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Only those for this base.")] = None,
    trigger: Annotated[str | None, typer.Option(metavar="WORDS", help="Only those with exactly this trigger.")] = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="Only those with exactly this tag.")] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="Words in the name, description or trigger.")] = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """List adapters, newest first."""
    with open_context(as_json) as context:
        wanted = None if model is None else find_model(context.client, model)
        found = context.client.list_adapters(model=wanted, trigger=trigger, tag=tag, text=text)
        is_search = any(given is not None for given in (model, trigger, tag, text))
        show_all(list(itertools.islice(found, limit)), as_json, partial(print_adapters, is_search=is_search))


@adapters.command("search")
def search_adapters(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORD]...", help="Words that are all in the name, description, notes, trigger or tags."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Only those for this base.")] = None,
    trigger: Annotated[str | None, typer.Option(metavar="WORDS", help="Only those with exactly this trigger.")] = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="Only those with exactly this tag.")] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="ADAPTER", help="Others for its base with its trigger, a tag of it, or its dataset."),
    ] = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Find adapters by words, base, trigger, tag, or likeness to another."""
    if not (words or model or trigger or tag or like):
        raise UsageError("Say what to search for: words, or --model, --trigger, --tag or --like.")
    with open_context(as_json, {"/query/text": "WORD", "/query/like": "--like"}) as context:
        found = context.client.list_adapters(
            model=None if model is None else find_model(context.client, model),
            trigger=trigger,
            tag=tag,
            text=" ".join(words) if words else None,
            like=None if like is None else find_adapter(context.client, like),
        )
        show_all(list(itertools.islice(found, limit)), as_json, partial(print_adapters, is_search=True))


@adapters.command("edit")
def edit_adapter(
    adapter: AdapterArgument,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Its new name.")] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="Shown where it is published.")] = None,
    notes: Annotated[str | None, typer.Option(metavar="TEXT", help="For yourself.")] = None,
    license_id: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="Such as openrail++; an empty one takes it away.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="May be given several times, for all that it is to have.")
    ] = None,
    cover: Annotated[
        str | None,
        typer.Option(
            metavar="STEP[:N]|GEN[:N]|FILE", help="An image of its samples, of a generation (gen_…), or a file."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is said of an adapter, and its cover. Its files stay."""
    given = {"name": name, "description": description, "notes": notes, "tags": tag}
    changes: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    if license_id is not None:
        changes["license"] = license_id or None
    picture = None if cover is None or not Path(cover).is_file() else Path(cover)
    if cover is not None and picture is None:
        changes["cover"] = _parse_cover(cover)
    if not changes and picture is None:
        raise UsageError("Say what to change: --name, --description, --notes, --license, --tag or --cover.")
    options = {f"/{field}": f"--{field}" for field in ("name", "description", "notes", "license", "cover")}
    with open_context(as_json, {**options, "/tags": "--tag"}) as context:
        adapter_id = find_adapter(context.client, adapter)
        if picture is not None:
            with context.reporter.waiting("Reading the picture"):
                context.client.send_cover(
                    adapter_id, picture, on_waiting=lambda why: context.reporter.warn("waiting", why)
                )
        changed = context.client.change_adapter(adapter_id, changes)
        show_all([changed], as_json, lambda rows: print_adapter(rows[0]))


def _parse_cover(typed: str) -> dict[str, Any]:
    """Raises UsageError."""
    place, _, index = typed.partition(":")
    if not re.fullmatch(r"\d{0,4}", index):
        raise UsageError(f"{typed!r} names no image: its number stands behind the colon, from 0.")
    if place.startswith("gen_"):
        return {"generation": place, "index": int(index or 0)}
    if not re.fullmatch(r"\d{1,9}", place):
        raise UsageError(
            f"{typed!r} names no image: write a step, as 200:1, a generation, as gen_01j9z3…:0, or a file."
        )
    return {"step": int(place), "index": int(index or 0)}


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
        if ready.conversion:
            context.reporter.warn("converted", f"Converted {describe_conversion(ready.conversion)}.")
        if ready.num_ignored:
            was = "was" if ready.num_ignored == 1 else "were"
            first = f"{ready.ignored[0].key}: {ready.ignored[0].reason}"
            text = f"{counted(ready.num_ignored, 'tensor')} of the file {was} not taken over ({first}). All of them: "
            context.reporter.warn("ignored", text + hint("adapters", "show", ready.id))
        text = f"Adapter {ready.id} is ready: {ready.name}, {ready.type} of rank {ready.rank}."
        context.reporter.say("adapter", text, id=ready.id, status=ready.status)


@adapters.command("merge")
def merge_adapters(
    stack: Annotated[
        list[str],
        typer.Argument(metavar="ADAPTER[:WEIGHT]", help="Ids or prefixes, each with its weight; by default 1."),
    ],
    method: Annotated[
        MergeMethod,
        typer.Option(metavar="concat|svd", help="concat is exact, and ranks add up; svd is the best of one rank."),
    ] = MergeMethod.CONCAT,
    rank: Annotated[int | None, typer.Option(metavar="RANK", help="For svd.")] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="By default the adapters'.")] = None,
    trigger: Annotated[str | None, typer.Option(metavar="WORDS", help="By default the adapters'.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="May be given several times.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make one adapter from several, and wait for it."""
    options = {"/adapters": "ADAPTER", "/method": "--method", "/rank": "--rank", "/name": "--name", "/tags": "--tag"}
    with open_context(as_json, {**options, "/trigger": "--trigger"}) as context:
        made = context.client.merge_adapters(
            _parse_stack(context.client, stack),
            method=method.value,
            rank=rank,
            name=name,
            trigger=trigger,
            tags=tag or (),
        )
        _wait_for_merge(context, made, f"Adapter {made.id} is being made from {counted(len(stack), 'other')}.")


@adapters.command("extract")
def extract_adapter(
    tuned: Annotated[str, typer.Argument(metavar="TUNED", help="The fine-tuned base.")],
    model: Annotated[str, typer.Option("--from", metavar="MODEL", help="The base that it was tuned from.")],
    rank: Annotated[int, typer.Option(metavar="RANK", help="The adapter's.")] = 32,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="By default the tuned base's id.")] = None,
    trigger: Annotated[str | None, typer.Option(metavar="WORDS", help="What the tuning was done with.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="May be given several times.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an adapter of what a fine-tuned base has learned, and wait for it."""
    options = {"/tuned": "TUNED", "/model": "--from", "/rank": "--rank", "/name": "--name", "/tags": "--tag"}
    with open_context(as_json, {**options, "/trigger": "--trigger"}) as context:
        made = context.client.extract_adapter(
            find_model(context.client, tuned),
            find_model(context.client, model),
            rank=rank,
            name=name,
            trigger=trigger,
            tags=tag or (),
        )
        _wait_for_merge(context, made, f"Adapter {made.id} is being extracted from {tuned}.")


@adapters.command("resize")
def resize_adapter(
    adapter: AdapterArgument,
    rank: Annotated[int, typer.Option(metavar="RANK", help="Lower than the adapter's.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="By default the adapter's, with the rank.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a smaller adapter from one, and wait for it."""
    with open_context(as_json, {"/rank": "--rank", "/name": "--name"}) as context:
        source = find_adapter(context.client, adapter)
        made = context.client.resize_adapter(source, rank, name=name)
        _wait_for_merge(context, made, f"Adapter {made.id} is being made from {source}.")


@adapters.command("check")
def check_adapters(
    stack: Annotated[list[str], typer.Argument(metavar="ADAPTER…", help="Ids or prefixes.")],
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="By default the first adapter's base.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether adapters fit a base, and how far they overlap."""
    with open_context(as_json, {"/adapters": "ADAPTER", "/model": "--model"}) as context:
        ids = [find_adapter(context.client, typed) for typed in stack]
        base = None if model is None else find_model(context.client, model)
        with context.reporter.waiting("Comparing the adapters"):
            check = context.client.check_adapters(
                ids, model=base, on_waiting=lambda why: context.reporter.warn("waiting", why)
            )
        show_all([check], as_json, lambda rows: print_check(rows[0]))


def _parse_stack(client: AtelierClient, typed: list[str]) -> dict[str, float]:
    """Raises UsageError for a weight that is not a number, and for an adapter that stands there twice."""
    stack = dict[str, float]()
    for one in typed:
        start, colon, weight = one.partition(":")
        adapter_id = find_adapter(client, start)
        if adapter_id in stack:
            raise UsageError(f"{adapter_id} is in the stack twice: add its weights up.")
        try:
            stack[adapter_id] = float(weight) if colon else 1.0
        except ValueError:
            raise UsageError(f"{one}: the weight must be a number, as in {start}:0.7.") from None
    return stack


def _wait_for_merge(context: Context, made: Adapter, text: str) -> None:
    context.reporter.say("adapter", text, id=made.id, status=made.status)
    with context.reporter.waiting("Making the adapter"):
        ready = context.client.wait_for_adapter(made.id, on_waiting=lambda why: context.reporter.warn("waiting", why))
    error = ready.merge.error.total if ready.merge and ready.merge.error else 0.0
    text = (
        f"Adapter {ready.id} is ready: {ready.name}, {ready.type} of rank {ready.rank}, with an error of {error:.2%}."
    )
    context.reporter.say("adapter", text, id=ready.id, status=ready.status, error=error)


@adapters.command("delete")
def delete_adapter(adapter: AdapterArgument, as_json: JsonOption = False) -> None:
    """Delete an imported or merged adapter. A job's adapter is deleted with its job."""
    with open_context(as_json) as context:
        adapter_id = find_adapter(context.client, adapter)
        context.client.delete_adapter(adapter_id)
        context.reporter.say("deleted", f"Adapter {adapter_id} is deleted.", id=adapter_id)
