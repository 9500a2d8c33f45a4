"""`atelier keys` and `atelier tenants` on a real API."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from click.testing import Result

from core.domain.keys import check_api_key_format
from tests.cli.conftest import Atelier
from tests.fixtures.client import status_with
from tests.fixtures.running_api import RunningApi


def read_line(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_the_life_of_a_key_by_commands(atelier: Atelier, running_api: RunningApi) -> None:
    made = read_line(atelier("keys", "create", "ci", "--scope", "read", "--days", 3, "--json"))
    assert check_api_key_format(made["secret"])
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=2, hours=23) < left <= timedelta(days=3)
    new = read_line(atelier("keys", "rotate", made["id"], "--overlap", 0, "--json"))
    assert [status_with(running_api, key["secret"]) for key in (made, new)] == [401, 200]
    assert atelier("keys", "revoke", new["id"]).exit_code == 0
    assert status_with(running_api, new["secret"]) == 401
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


def test_refusals_are_printed(atelier: Atelier) -> None:
    unknown = atelier("keys", "revoke", "key_none")
    assert unknown.exit_code == 2
    assert "There is no key key_none." in unknown.stderr
    scope = atelier("keys", "create", "x", "--scope", "root")
    assert scope.exit_code == 2
    assert "--scope" in scope.stderr and "/scopes" not in scope.stderr
