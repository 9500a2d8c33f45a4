"""`atelier keys`: list, create, rotate, revoke; `atelier tenants`: list, create. Without a subcommand they list."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from atelier_client.models import NewKey
from cli.app import App
from cli.context import JsonOption, list_unless_asked, open_context, show_all
from cli.ids import find_key, find_tenant
from cli.reporting import Reporter
from cli.tables import print_keys, print_tenants

keys = App(invoke_without_command=True, help="Make, list, rotate and revoke API keys.")
tenants = App(invoke_without_command=True, help="Make and list tenants, with the operator's key.")

KeyArgument = Annotated[
    str, typer.Argument(metavar="KEY", help="The key's id (key_…) or a prefix of it; not its secret.")
]
TenantOption = Annotated[str | None, typer.Option(metavar="TENANT", help="Of another tenant, with the operator's key.")]


@keys.callback()
def list_keys_by_default(context: typer.Context, as_json: JsonOption = False) -> None:
    list_unless_asked(context, list_keys, as_json)


@keys.command("list")
def list_keys(tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """List keys, newest first. Of each secret only the first characters are shown."""
    with open_context(as_json) as context:
        show_all(list(context.client.list_keys(tenant=find_tenant(context.client, tenant))), as_json, print_keys)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what will use it.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(metavar="SCOPE", help="read, jobs or admin; may be given several times.  [default: read, jobs]"),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, metavar="N", help="How long it is valid; without it, forever.")
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key, and print its secret, which is shown only once."""
    options = {"/name": "NAME", "/scopes": "--scope", "/expires_at": "--days", "/tenant": "--tenant"}
    with open_context(as_json, options) as context:
        end = None if days is None else datetime.now(UTC) + timedelta(days=days)
        scopes = tuple(scope or ("read", "jobs"))
        owner = find_tenant(context.client, tenant)
        show_secret(context.client.create_key(name, scopes=scopes, expires_at=end, tenant=owner), context.reporter)


@keys.command("rotate")
def rotate_key(
    key: KeyArgument,
    overlap: Annotated[
        int, typer.Option(min=0, max=86_400, metavar="SECONDS", help="For how long the old key stays valid.")
    ] = 3600,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace a key by a new one, and print its secret, which is shown only once."""
    with open_context(as_json) as context:
        owner = find_tenant(context.client, tenant)
        key_id = find_key(context.client, key, owner)
        show_secret(context.client.rotate_key(key_id, overlap_seconds=overlap, tenant=owner), context.reporter)


@keys.command("revoke")
def revoke_key(key: KeyArgument, tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """Revoke a key at once. This cannot be undone."""
    with open_context(as_json) as context:
        owner = find_tenant(context.client, tenant)
        key_id = find_key(context.client, key, owner)
        context.client.revoke_key(key_id, tenant=owner)
        context.reporter.say("revoked", f"Key {key_id} is revoked.", id=key_id)


def show_secret(made: NewKey, reporter: Reporter) -> None:
    """The one thing on stdout that begins with atl_, so that a script finds it."""
    text = f"Key {made.id} ({', '.join(made.scopes)}). Its secret is shown only this once:\n{made.secret}"
    reporter.say("key", text, **made.model_dump(mode="json"))


@tenants.callback()
def list_tenants_by_default(context: typer.Context, as_json: JsonOption = False) -> None:
    list_unless_asked(context, list_tenants, as_json)


@tenants.command("list")
def list_tenants(as_json: JsonOption = False) -> None:
    """List tenants."""
    with open_context(as_json) as context:
        show_all(list(context.client.list_tenants()), as_json, print_tenants)


@tenants.command("create")
def create_tenant(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose it is.")], as_json: JsonOption = False
) -> None:
    """Make a tenant. Then make its first key: atelier keys create NAME --scope admin --tenant ID"""
    with open_context(as_json) as context:
        made = context.client.create_tenant(name)
        context.reporter.say("tenant", f"Tenant {made.id} is made.", **made.model_dump(mode="json"))
