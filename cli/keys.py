"""`atelier keys`: list, create, rotate, revoke; `atelier tenants`: list, create. Without a subcommand they list."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from cli.commands import JsonOption, converse, list_unless_asked, show_all
from cli.reporting import Reporter
from cli.tables import print_keys, print_tenants
from client.models import NewKey

keys = typer.Typer(invoke_without_command=True, help="Make, list, rotate and revoke API keys.")
tenants = typer.Typer(invoke_without_command=True, help="Make and list tenants, with the operator's key.")

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, key_…; not its secret.")]
TenantOption = Annotated[str | None, typer.Option(help="Another tenant's, with the operator's key.")]


@keys.callback()
def list_keys_by_default(context: typer.Context, as_json: JsonOption = False) -> None:
    list_unless_asked(context, list_keys, as_json)


@keys.command("list")
def list_keys(tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """List keys, newest first; of their secrets, how they begin."""
    with converse(as_json) as talk:
        show_all(list(talk.client.list_keys(tenant=tenant)), as_json, print_keys)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Who or what will use it.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, jobs or admin; may be given several times.  [default: read, jobs]")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="How long it is valid; for ever, if not given.")
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key, and print it this once."""
    with converse(as_json) as talk:
        end = None if days is None else datetime.now(UTC) + timedelta(days=days)
        scopes = tuple(scope or ("read", "jobs"))
        show_secret(talk.client.create_key(name, scopes=scopes, expires_at=end, tenant=tenant), talk.reporter)


@keys.command("rotate")
def rotate_key(
    key: KeyArgument,
    overlap: Annotated[
        int, typer.Option(min=0, max=86_400, metavar="SECONDS", help="For how long the old key stays valid.")
    ] = 3600,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a new key in the place of an old one, and print it this once."""
    with converse(as_json) as talk:
        show_secret(talk.client.rotate_key(key, overlap_seconds=overlap, tenant=tenant), talk.reporter)


@keys.command("revoke")
def revoke_key(key: KeyArgument, tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """End a key at once and for good."""
    with converse(as_json) as talk:
        talk.client.revoke_key(key, tenant=tenant)
        talk.reporter.say("revoked", f"Key {key} is revoked.", id=key)


def show_secret(made: NewKey, reporter: Reporter) -> None:
    """The one thing on stdout that begins with atl_, so that a script finds it."""
    text = f"Key {made.id} ({', '.join(made.scopes)}), which is shown this once:\n{made.secret}"
    reporter.say("key", text, **made.model_dump(mode="json"))


@tenants.callback()
def list_tenants_by_default(context: typer.Context, as_json: JsonOption = False) -> None:
    list_unless_asked(context, list_tenants, as_json)


@tenants.command("list")
def list_tenants(as_json: JsonOption = False) -> None:
    """List tenants."""
    with converse(as_json) as talk:
        show_all(list(talk.client.list_tenants()), as_json, print_tenants)


@tenants.command("create")
def create_tenant(name: Annotated[str, typer.Argument(help="Whose it is.")], as_json: JsonOption = False) -> None:
    """Make a tenant. Then make its first key: atelier keys create NAME --scope admin --tenant ID"""
    with converse(as_json) as talk:
        made = talk.client.create_tenant(name)
        talk.reporter.say("tenant", f"Tenant {made.id} is made.", **made.model_dump(mode="json"))
