"""Keys, tenants and the audit log on a real API."""

from datetime import UTC, datetime, timedelta

import pytest

from atelier_client import ApiError, AtelierClient
from tests.fixtures.client import status_with
from tests.fixtures.running_api import RunningApi


def test_a_key_by_the_client(client: AtelierClient, running_api: RunningApi) -> None:
    end = datetime.now(UTC) + timedelta(days=1)
    made = client.create_key("ci", scopes=("read",), expires_at=end)
    assert made.secret not in repr(made)
    assert (made.scopes, made.expires_at) == (("read",), end)
    assert status_with(running_api, made.secret) == 200
    new = client.rotate_key(made.id, overlap_seconds=0)
    assert [status_with(running_api, key.secret) for key in (made, new)] == [401, 200]
    client.revoke_key(new.id)
    assert status_with(running_api, new.secret) == 401
    assert [key.id for key in client.list_keys()][:2] == [new.id, made.id]
    audited = [(entry.action, entry.target) for entry in client.list_audit_entries()][:3]
    assert audited == [("key.revoked", new.id), ("key.rotated", made.id), ("key.created", made.id)]


def test_another_tenants_keys_by_the_operator(client: AtelierClient, running_api: RunningApi) -> None:
    tenant = client.create_tenant("the illustrators")
    assert tenant.id in [known.id for known in client.list_tenants()]
    made = client.create_key("first", scopes=("admin",), tenant=tenant.id)
    new = client.rotate_key(made.id, tenant=tenant.id)
    assert {key.id for key in client.list_keys(tenant=tenant.id)} == {made.id, new.id}
    with AtelierClient(running_api.url, new.secret) as theirs, pytest.raises(ApiError, match="operator"):
        theirs.create_tenant("mine")
    client.revoke_key(new.id, tenant=tenant.id)
    assert status_with(running_api, new.secret) == 401
