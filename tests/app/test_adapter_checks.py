"""POST /adapters/check: answered at once where a worker is quick, else looked at again; and each refusal."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import func, update

from core.db import adapter_checks, leases
from core.db.adapter_checks import CheckClaim
from core.db.tables import AdapterCheck
from core.domain.adapter_check import CheckedAdapter, CheckResult
from tests.app.conftest import LiveApi, with_scopes
from tests.app.factory import MODEL, add_model
from tests.app.test_adapters import import_ready, send
from tests.app.test_jobs import refuse
from tests.fixtures.client import repeating


def ask(api: LiveApi, *adapters: str, wait: float = 0, **fields: Any) -> httpx.Response:
    return api.client.post("/adapters/check", params={"wait": wait}, json={"adapters": adapters, **fields})


def claim_next(api: LiveApi) -> CheckClaim | None:
    with api.sessions.begin() as session:
        return adapter_checks.claim_check(session, lease_seconds=3600)


def claim_check(api: LiveApi, check: dict[str, Any]) -> CheckClaim:
    """Passes over those that other tests left."""
    while (claim := claim_next(api)) is not None and claim.id != check["id"]:
        pass
    assert claim is not None
    return claim


def answer(api: LiveApi, claim: CheckClaim) -> CheckResult:
    """Does what the worker does once its program has answered."""
    found = tuple(CheckedAdapter(id=one.id, fits=True, same_base=True, num_layers=2) for one in claim.files)
    result = CheckResult(fits=True, summary="All fit.", adapters=found, differences=(), pairs=())
    with api.sessions.begin() as session:
        assert adapter_checks.commit_check(session, claim, result)
    return result


@pytest.fixture
def worker(api: LiveApi) -> Iterator[None]:
    def check_next() -> None:
        if (claim := claim_next(api)) is not None:
            answer(api, claim)

    with repeating(check_next):
        yield


@pytest.mark.usefixtures("worker")
def test_a_quick_worker_answers_at_once(api: LiveApi) -> None:
    first, second = import_ready(api), import_ready(api)
    done = ask(api, first, second, wait=30)
    assert done.status_code == 200, done.text
    check = done.json()
    assert (check["status"], check["model"], check["adapters"]) == ("done", MODEL.id, [first, second])
    assert [one["id"] for one in check["result"]["adapters"]] == [first, second]
    assert done.headers["location"] == check["urls"]["self"]
    assert api.client.get(check["urls"]["self"]).json() == check


def test_a_slow_one_is_waited_for(api: LiveApi) -> None:
    adapter_id = import_ready(api)
    pending = ask(api, adapter_id)
    assert pending.status_code == 202, pending.text
    check = pending.json()
    assert (check["status"], check["result"], check["error"]) == ("checking", None, None)
    claim = claim_check(api, check)
    assert (claim.missing, claim.model_sha256) == ((), MODEL.sha256)
    threading.Timer(0.5, answer, (api, claim)).start()
    done = api.client.get(check["urls"]["self"], params={"wait": 30}).json()
    assert (done["status"], done["result"]["summary"]) == ("done", "All fit.")


def test_a_check_that_fails_says_why(api: LiveApi) -> None:
    check = ask(api, import_ready(api)).json()
    claim = claim_check(api, check)
    with api.sessions.begin() as session:
        assert adapter_checks.fail_check(session, claim, "it is broken")
        assert not adapter_checks.fail_check(session, claim, "too late")
    failed = api.client.get(check["urls"]["self"]).json()
    assert (failed["status"], failed["error"]["detail"]) == ("failed", "it is broken")


def test_what_was_deleted_since_is_missing(api: LiveApi) -> None:
    kept, gone = import_ready(api), import_ready(api)
    check = ask(api, kept, gone).json()
    assert api.client.delete(f"/adapters/{gone}").status_code == 204, "a check keeps nothing from deletion"
    claim = claim_check(api, check)
    assert ([one.id for one in claim.files], claim.missing) == ([kept], (gone,))


def test_another_base_may_be_named(api: LiveApi) -> None:
    adapter_id = import_ready(api)
    add_model(api, MODEL.model_copy(update={"id": "second", "sha256": "2" * 64}))
    check = ask(api, adapter_id, model="second").json()
    claim = claim_check(api, check)
    assert check["model"] == claim.model_id == "second"
    assert claim.model_sha256 == "2" * 64 != claim.files[0].model_sha256


def test_what_cannot_be_checked_is_refused_with_the_field(api: LiveApi) -> None:
    good, checking = import_ready(api), send(api).json()["id"]
    assert "/adapters/1" in refuse(ask(api, good, "ad_none"), 404, "not-found")["errors"]
    assert "/adapters/0" in refuse(ask(api, checking), 409, "wrong-state")["errors"]
    assert "/model" in refuse(ask(api, good, model="none"), 404, "not-found")["errors"]
    assert "/adapters" in refuse(ask(api, good, good), 422, "invalid-request")["errors"]
    assert "/adapters" in refuse(ask(api), 422, "invalid-request")["errors"]
    assert "/adapters" in refuse(ask(api, *[f"ad_{n}" for n in range(9)]), 422, "invalid-request")["errors"]
    assert "/query/wait" in refuse(ask(api, good, wait=61), 422, "invalid-request")["errors"]
    assert "/models" in refuse(ask(api, good, models="x"), 422, "invalid-request")["errors"]
    refuse(api.client.get("/adapters/checks/chk_none"), 404, "not-found")


def test_two_tenants_have_two_worlds(api: LiveApi, other: LiveApi) -> None:
    theirs = import_ready(api)
    check = ask(api, theirs).json()
    refuse(other.client.get(check["urls"]["self"]), 404, "not-found")
    refuse(ask(other, theirs), 404, "not-found")
    with with_scopes(api, "read") as reader:
        assert reader.client.get(check["urls"]["self"]).status_code == 200
        assert ask(reader, theirs).status_code == 403


def test_so_many_wait_and_old_ones_are_forgotten(start_api: Callable[..., LiveApi]) -> None:
    api = start_api()
    adapter_id = import_ready(api)
    ids = [ask(api, adapter_id).json()["id"] for _ in range(adapter_checks.MAX_WAITING)]
    refuse(ask(api, adapter_id), 429, "quota-exceeded")
    with api.sessions.begin() as session:
        old = func.clock_timestamp() - timedelta(days=2)
        session.execute(update(AdapterCheck).where(AdapterCheck.id == ids[0]).values(created_at=old))
    assert ask(api, adapter_id).status_code == 202
    refuse(api.client.get(f"/adapters/checks/{ids[0]}"), 404, "not-found")


def test_a_check_outlives_its_worker_and_not_too_many(start_api: Callable[..., LiveApi]) -> None:
    api = start_api()
    check = ask(api, import_ready(api)).json()
    for _ in range(leases.MAX_DEATHS):
        with api.sessions.begin() as session:
            assert adapter_checks.claim_check(session, lease_seconds=-1) is not None
            assert [row.id for row in adapter_checks.expire_checks(session)] == [check["id"]]
    failed = api.client.get(check["urls"]["self"]).json()
    assert failed["status"] == "failed" and "its worker died" in failed["error"]["detail"]
