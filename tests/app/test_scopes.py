"""A key does what its scopes say, on every route there is."""

import re
from collections.abc import Callable

import pytest
from fastapi.routing import APIRoute

from app.auth.scopes import REQUIREMENTS, Requirement, find_requirement
from app.main import ROUTERS
from app.middleware.gate import is_open
from core.domain.keys import SCOPES
from tests.app.conftest import LiveApi, with_scopes
from tests.app.factory import submit
from tests.fixtures.document import read_document

DOCUMENT = read_document()
ROUTES = [
    (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods if not is_open(path)
]
# All that a key may be and still lack what is needed.
TOO_SMALL: dict[Requirement, tuple[tuple[str, ...], ...]] = {
    "read": (("jobs",),),
    "jobs": (("read",),),
    "admin": (("read", "jobs"), ("read",)),
    "operator": (("read", "jobs"), ("admin",)),
}


def fill(path: str) -> str:
    return re.sub(r"{\w+}", "1", path)


def test_every_route_stands_in_the_table() -> None:
    paths = {route.path for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)}
    missing = {path for path in paths if not is_open(path) and find_requirement("GET", path) is None}
    assert missing == set()
    assert len(ROUTES) > 40


def test_the_table_is_as_the_documentation_says() -> None:
    for method, path in ROUTES:
        need, first = find_requirement(method, path), path.split("/")[1]
        if first in {"keys", "audit"}:
            assert need == "admin", (method, path)
        elif first == "tenants" or (first in {"models", "captioners"} and method != "GET"):
            assert need == "operator", (method, path)
        elif method != "GET" or first == "webhooks":
            assert need == "jobs", (method, path)
        else:
            assert need == "read", (method, path)


def test_the_answer_names_the_missing_scope(api: LiveApi) -> None:
    """Before the body is read, and before anybody looks whether the thing is there."""
    keys = {scopes for small in TOO_SMALL.values() for scopes in small}
    for scopes in keys:
        with with_scopes(api, *scopes) as small:
            for method, path in ROUTES:
                need = find_requirement(method, path)
                assert need is not None
                if scopes not in TOO_SMALL[need]:
                    continue
                answer = small.client.request(method, fill(path), content=b"{not json")
                assert answer.status_code == 403, (scopes, method, path, answer.text)
                problem = answer.json()
                assert problem["type"] == "/problems/forbidden"
                assert ("operator" if need == "operator" else f"the scope {need};") in problem["detail"]


@pytest.mark.parametrize("scopes", [("read",), ("jobs",), ("admin",)])
def test_a_scope_opens_what_is_its_own(api: LiveApi, scopes: tuple[str, ...]) -> None:
    job = submit(api)
    with with_scopes(api, *scopes) as key:
        looked = key.client.get(f"/jobs/{job['id']}").status_code
        canceled = key.client.post(f"/jobs/{job['id']}/cancel").status_code
        listed = key.client.get("/keys").status_code
    may = lambda *which: bool(set(which) & set(scopes))  # noqa: E731
    assert looked == (200 if may("read", "admin") else 403)
    assert canceled == (202 if may("jobs", "admin") else 403)
    assert listed == (200 if may("admin") else 403)


def test_the_bootstrap_key_may_do_everything(start_api: Callable[..., LiveApi]) -> None:
    api = start_api()
    for path in ("/jobs", "/keys", "/tenants", "/audit", "/webhooks/secret"):
        assert api.client.get(path).status_code == 200, path


def test_an_admin_of_the_operators_tenant_is_no_operator(start_api: Callable[..., LiveApi]) -> None:
    api = start_api()
    with with_scopes(api, *SCOPES) as admin:
        assert admin.client.get("/tenants").status_code == 403
        assert admin.client.post("/models", json={"path": "x"}).status_code == 403
        assert admin.client.get("/keys").status_code == 200


def test_what_is_no_route_is_not_found(api: LiveApi) -> None:
    assert "nowhere" not in REQUIREMENTS
    assert api.client.get("/nowhere").status_code == 404


def test_a_header_of_another_method_gains_nothing(api: LiveApi) -> None:
    job = submit(api)
    with with_scopes(api, "read") as reader:
        for name in ("X-HTTP-Method-Override", "X-Method-Override"):
            assert reader.client.post(f"/jobs/{job['id']}/cancel", headers={name: "GET"}).status_code == 403
        for spelling in ("//jobs", "/%6aobs", "/./jobs"):
            path = f"{spelling}/{job['id']}/cancel"
            assert reader.client.post(f"{api.url}{path}").status_code in {403, 404}, path
    assert api.client.get(f"/jobs/{job['id']}").json()["status"] == "queued"
