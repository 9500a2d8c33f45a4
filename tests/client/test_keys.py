"""Keys, tenants and the audit log by the client and by `atelier keys`, on a real API."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import Result

from client import ApiError, AtelierClient
from core.domain.keys import check_api_key_format
from tests.client.conftest import Atelier
from tests.fixtures.running_api import RunningApi


def read_line(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def refused(api: RunningApi, secret: str) -> int:
    """The status of what such a key is answered; 200 if it is taken."""
    with AtelierClient(api.url, secret) as client:
        try:
            list(client.list_jobs())
        except ApiError as error:
            return error.problem.status
    return 200


def test_a_key_by_the_client(client: AtelierClient, running_api: RunningApi) -> None:
    end = datetime.now(UTC) + timedelta(days=1)
    made = client.create_key("ci", scopes=("read",), expires_at=end)
    assert made.secret not in repr(made)
    assert (made.scopes, made.expires_at) == (("read",), end)
    assert refused(running_api, made.secret) == 200
    new = client.rotate_key(made.id, overlap_seconds=0)
    assert [refused(running_api, key.secret) for key in (made, new)] == [401, 200]
    client.revoke_key(new.id)
    assert refused(running_api, new.secret) == 401
    assert [key.id for key in client.list_keys()][:2] == [new.id, made.id]
    told = [(entry.action, entry.target) for entry in client.list_audit_entries()][:3]
    assert told == [("key.revoked", new.id), ("key.rotated", made.id), ("key.created", made.id)]


def test_another_tenants_keys_by_the_operator(client: AtelierClient, running_api: RunningApi) -> None:
    tenant = client.create_tenant("the illustrators")
    assert tenant.id in [known.id for known in client.list_tenants()]
    made = client.create_key("first", scopes=("admin",), tenant=tenant.id)
    new = client.rotate_key(made.id, tenant=tenant.id)
    assert {key.id for key in client.list_keys(tenant=tenant.id)} == {made.id, new.id}
    with AtelierClient(running_api.url, new.secret) as theirs, pytest.raises(ApiError, match="operator"):
        theirs.create_tenant("mine")
    client.revoke_key(new.id, tenant=tenant.id)
    assert refused(running_api, new.secret) == 401


def test_the_life_of_a_key_by_commands(atelier: Atelier, running_api: RunningApi) -> None:
    made = read_line(atelier("keys", "create", "ci", "--scope", "read", "--days", 3, "--json"))
    assert check_api_key_format(made["secret"])
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=2, hours=23) < left <= timedelta(days=3)
    new = read_line(atelier("keys", "rotate", made["id"], "--overlap", 0, "--json"))
    assert [refused(running_api, key["secret"]) for key in (made, new)] == [401, 200]
    assert atelier("keys", "revoke", new["id"]).exit_code == 0
    assert refused(running_api, new["secret"]) == 401
    table = atelier("keys").stdout
    assert made["id"] in table and made["prefix"] in table and "revoked" in table
    assert made["secret"] not in table
    assert [json.loads(line)["id"] for line in atelier("keys", "list", "--json").stdout.splitlines()][:1] == [new["id"]]


def test_a_person_is_shown_the_key_on_a_line_of_its_own(atelier: Atelier) -> None:
    result = atelier("keys", "create", "me")
    secrets = [line for line in result.stdout.splitlines() if check_api_key_format(line)]
    assert len(secrets) == 1
    assert "shown only this once" in result.stdout


def test_tenants_by_commands(atelier: Atelier) -> None:
    made = read_line(atelier("tenants", "create", "the illustrators", "--json"))
    assert made["id"] in atelier("tenants").stdout
    key = read_line(atelier("keys", "create", "first", "--scope", "admin", "--tenant", made["id"], "--json"))
    assert key["tenant"] == made["id"]
    assert key["id"] in atelier("keys", "list", "--tenant", made["id"]).stdout


def test_what_is_refused_is_said(atelier: Atelier) -> None:
    unknown = atelier("keys", "revoke", "key_none")
    assert unknown.exit_code == 2
    assert "There is no key key_none." in unknown.stderr
    scope = atelier("keys", "create", "x", "--scope", "root")
    assert scope.exit_code == 2
    assert "--scope" in scope.stderr and "/scopes" not in scope.stderr
