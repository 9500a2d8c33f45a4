"""`atelier publish` and `atelier share`: adapters on the Hugging Face Hub, and links for people without a key."""

import os
import re
from typing import Annotated

import typer

from cli.app import FLAG, App
from cli.context import Context, JsonOption, open_context, show_all
from cli.errors import UsageError
from cli.ids import find_adapter
from cli.tables import print_links

PUBLISH_EXAMPLE = """Example: HF_TOKEN=hf_… atelier publish ad_01j9z3k8 studio/blip --license openrail++

The token is read from HF_TOKEN, so that no option shows it. Without it the service uses its operator's."""
SHARE_EXAMPLE = """Example: atelier share ad_01j9z3k8 --for 3d

Whoever has the link sees the adapter's page and downloads its files, and may do nothing else."""

AdapterArgument = Annotated[str, typer.Argument(metavar="ADAPTER", help="The adapter's id, or a prefix of it.")]
_UNITS = {"m": 60, "h": 3600, "d": 86_400}


def publish(
    adapter: AdapterArgument,
    repo_id: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository on the Hub.")],
    public: Annotated[bool, typer.Option("--public", metavar=FLAG, help="For everybody to see.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", metavar=FLAG, help="Add a commit to a repository with other files.")
    ] = False,
    base_model: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="The base on the Hub, for the model card.")
    ] = None,
    license_id: Annotated[
        str | None, typer.Option("--license", metavar="ID", help="The Hub's name of a licence, such as openrail++.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish an adapter on the Hugging Face Hub, and wait for it."""
    options = {"/repo_id": "OWNER/NAME", "/base_model": "--base-model", "/license": "--license", "/token": "HF_TOKEN"}
    with open_context(as_json, options) as context:
        adapter_id = find_adapter(context.client, adapter)
        made = context.client.publish_adapter(
            adapter_id,
            repo_id,
            private=not public,
            overwrite=overwrite,
            base_model=base_model,
            license_id=license_id,
            token=os.environ.get("HF_TOKEN") or None,
        )
        text = f"Adapter {adapter_id} is being published to {repo_id}."
        context.reporter.say("publication", text, id=made.id, status=made.status)
        with context.reporter.waiting("Publishing the adapter"):
            done = context.client.wait_for_publication(
                adapter_id, made.id, on_waiting=lambda why: context.reporter.warn("waiting", why)
            )
        text = f"Published: {done.url}"
        context.reporter.say("publication", text, id=done.id, status=done.status, url=done.url, commit=done.commit)


def share(
    adapter: AdapterArgument,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="How long it works, as 30m, 12h or 7d.")
    ] = None,
    list_all: Annotated[bool, typer.Option("--list", metavar=FLAG, help="List its links, and their uses.")] = False,
    revoke: Annotated[str | None, typer.Option(metavar="LINK", help="The id of a link, or a prefix of it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a link to an adapter that needs no key; or list or revoke its links."""
    if sum((duration is not None, list_all, revoke is not None)) > 1:
        raise UsageError("--for, --list and --revoke exclude one another.")
    with open_context(as_json, {"/expires_in": "--for"}) as context:
        adapter_id = find_adapter(context.client, adapter)
        if list_all:
            show_all(list(context.client.list_links(adapter_id)), as_json, print_links)
        elif revoke is not None:
            _revoke(context, adapter_id, revoke)
        else:
            link = context.client.create_link(adapter_id, expires_in=None if duration is None else _parse(duration))
            until = f"{link.expires_at:%Y-%m-%d %H:%M UTC}"
            text = f"{link.url}\n\nIt works until {until}. It is not shown again."
            context.reporter.say("link", text, id=link.id, url=link.url, expires_at=link.expires_at.isoformat())


def _revoke(context: Context, adapter_id: str, typed: str) -> None:
    start = typed.lower().removeprefix("lnk_")
    if not start:
        raise UsageError("Every link's id begins with lnk_: type some characters more of it.")
    found = [link.id for link in context.client.list_links(adapter_id) if link.id.startswith(f"lnk_{start}")]
    if len(found) != 1:
        raise UsageError(f"{'Several links begin' if found else 'No link of this adapter begins'} with {typed}.")
    context.client.delete_link(adapter_id, found[0])
    context.reporter.say("deleted", f"Link {found[0]} is revoked.", id=found[0])


def _parse(duration: str) -> int:
    """Seconds. Raises UsageError."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", duration)
    if found is None:
        raise UsageError(f"{duration!r} is not a duration: write it as 30m, 12h or 7d.")
    return int(found[1]) * _UNITS[found[2]]


def register(app: App, panel: str) -> None:
    app.command(rich_help_panel=panel, epilog=PUBLISH_EXAMPLE)(publish)
    app.command(rich_help_panel=panel, epilog=SHARE_EXAMPLE)(share)
