"""Adapters on PostgreSQL: made with the end of their job, found, and kept from deletion while they are needed."""

from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from core.db import adapter_claims, adapters, job_claims, jobs, leases
from core.db.adapter_claims import ImportClaim
from core.db.job_claims import Claim
from core.db.leases import MAX_DEATHS
from core.db.references import list_adapter_references
from core.db.tables import DEFAULT_TENANT, Adapter, Dataset, Job, Model
from core.domain.adapter_import import Findings
from core.domain.artifacts import Artifact
from core.domain.errors import NotFound, WrongState
from core.domain.ids import new_id
from core.domain.model import FAMILY_DEFAULTS, ModelInfo
from core.domain.states import JobStatus

INFO = ModelInfo(
    id="m", family="sd1", resolution=64, resolution_step=8, sha256="0" * 64, num_parameters=1, adapter_dims={},
    defaults=FAMILY_DEFAULTS["sd1"],
)  # fmt: skip
PLAN = {
    "name": "zap", "trigger": "zzz", "model_sha256": "0" * 64, "family": "sd1", "adapter_type": "locon", "rank": 8,
    "images": [],
}  # fmt: skip
FILE = Artifact(key="k", sha256="1" * 64, size=3)
FOUND = Findings(type="lora", rank=4, trigger="ink", proofs={})


@pytest.fixture(autouse=True)
def _rows(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        session.add(Model(id="m", status="ready", location="", info={}))
        session.add(Model(id="n", status="ready", location="", info={}))
        session.add(Dataset(id="ds_1", tenant_id=DEFAULT_TENANT, status="ready"))


def add_job(session: Session, **spec: Any) -> Claim:
    job = Job(
        id=new_id("job"), tenant_id=DEFAULT_TENANT, model_id="m", dataset_id="ds_1", status=JobStatus.RUNNING,
        attempt=1, spec=spec, plan=PLAN, estimate={},
    )  # fmt: skip
    session.add(job)
    session.flush()
    return Claim(job.id, 1)


def finish(session: Session, claim: Claim) -> str:
    result = {"metrics": {"retention": 0.9}, "proofs": {}}
    job_claims.succeed(session, claim, result=result, artifacts={"adapter-kohya": FILE})
    job = jobs.get_job(session, DEFAULT_TENANT, claim.job_id)
    session.refresh(job)
    assert job.result is not None
    return str(job.result["adapter_id"])


def add_import(session: Session, *, trigger: str = "", name: str = "a", tags: tuple[str, ...] = ()) -> str:
    adapter_id = new_id("ad")
    return adapters.insert_import(
        session, adapter_id=adapter_id, tenant_id=DEFAULT_TENANT, model=INFO, upload=FILE, name=name,
        trigger=trigger, tags=tags,
    ).id  # fmt: skip


def claim_next(session: Session, *, lease_seconds: float = 60) -> ImportClaim | None:
    return adapter_claims.claim_import(session, lease_seconds=lease_seconds)


def test_a_finished_job_has_an_adapter_that_goes_with_it(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        claim = add_job(session)
        adapter_id = finish(session, claim)
    with sessions.begin() as session:
        row = adapters.get_adapter(session, DEFAULT_TENANT, adapter_id)
        assert (row.name, row.trigger, row.type, row.rank, row.status) == ("zap", "zzz", "locon", 8, "ready")
        assert (row.job_id, row.files, row.metrics) == (claim.job_id, {"kohya": FILE.model_dump()}, {"retention": 0.9})
        with pytest.raises(WrongState, match=f"belongs to {claim.job_id}"):
            adapters.delete_adapter(session, DEFAULT_TENANT, adapter_id)
        jobs.delete_job(session, DEFAULT_TENANT, claim.job_id)
    with sessions() as session, pytest.raises(NotFound):
        adapters.get_adapter(session, DEFAULT_TENANT, adapter_id)


def test_what_a_job_starts_from_stays_until_its_end(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        first = add_job(session)
        made, imported = finish(session, first), add_import(session)
        second, third = add_job(session, init_adapter=made), add_job(session, init_adapter=imported)
    with sessions.begin() as session:
        with pytest.raises(WrongState, match=f"{second.job_id} starts from"):
            jobs.delete_job(session, DEFAULT_TENANT, first.job_id)
        with pytest.raises(WrongState, match=f"{third.job_id} starts from"):
            adapters.delete_adapter(session, DEFAULT_TENANT, imported)
        finish(session, second)
        finish(session, third)
        jobs.delete_job(session, DEFAULT_TENANT, first.job_id)
        adapters.delete_adapter(session, DEFAULT_TENANT, imported)
        with pytest.raises(NotFound):
            adapters.keep_for_job(session, DEFAULT_TENANT, imported)


def test_adapters_are_found_by_what_is_said_of_them(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        ink = add_import(session, name="Ink_100%", trigger="inkish", tags=("style", "ink"))
        fox = add_import(session, name="Fox", tags=("animal",))
        adapters.change_adapter(session, DEFAULT_TENANT, fox, {"description": "Red, by ink."})

        def find(**wanted: Any) -> list[str]:
            return [row.id for row in adapters.list_adapters(session, DEFAULT_TENANT, **wanted)[0]]

        assert find() == [fox, ink]
        assert (find(tag="ink"), find(tag="in"), find(trigger="inkish")) == ([ink], [], [ink])
        assert (find(words="INK"), find(words="100%"), find(words="%x")) == ([fox, ink], [ink], [])
        assert (find(model="m"), find(model="n"), find(after=fox)) == ([fox, ink], [], [ink])
        assert adapters.list_adapters(session, DEFAULT_TENANT, limit=1)[1] is True
        assert adapters.list_adapters(session, "ten_other") == ([], False)
        with pytest.raises(NotFound):
            adapters.get_adapter(session, "ten_other", ink)


def test_an_import_is_checked_by_one_worker_and_committed_under_its_fence(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        adapter_id = add_import(session)
        assert leases.count_waiting(session, Adapter) == 1
        assert list_adapter_references(session, adapter_id) is None
    with sessions.begin() as session:
        claim = claim_next(session)
        assert claim == ImportClaim(adapter_id, 1, "m", "sd1", FILE)
        assert claim_next(session) is None
        late = ImportClaim(adapter_id, 0, "m", "sd1", FILE)
        assert not adapter_claims.reject_import(session, late, "no")
        assert leases.renew(session, Adapter, claim, lease_seconds=60)
        assert adapter_claims.commit_import(session, claim, FOUND, {"kohya": FILE})
        assert not adapter_claims.reject_import(session, claim, "too late")
    with sessions() as session:
        row = adapters.get_adapter(session, DEFAULT_TENANT, adapter_id)
        assert (row.status, row.rank, row.trigger, row.upload, row.lease_until) == ("ready", 4, "ink", None, None)
        assert list_adapter_references(session, adapter_id) == {"k"}


def test_the_owners_trigger_stands_over_the_files(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        adapter_id = add_import(session, trigger="mine")
        claim = claim_next(session)
        assert claim is not None and adapter_claims.commit_import(session, claim, FOUND, {})
        session.expire_all()
        assert adapters.get_adapter(session, DEFAULT_TENANT, adapter_id).trigger == "mine"


def test_an_import_outlives_its_workers_but_not_without_end(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        adapter_id = add_import(session)
        given_back = claim_next(session)
        assert given_back is not None and leases.release(session, Adapter, given_back)
    for death in range(1, MAX_DEATHS + 1):
        with sessions.begin() as session:
            claim = claim_next(session)
            assert claim is not None and claim.attempt == death
            session.execute(update(Adapter).values(lease_until=Adapter.created_at))
        with sessions.begin() as session:
            assert [row.id for row in adapter_claims.expire_imports(session)] == [adapter_id]
            assert not adapter_claims.commit_import(session, claim, FOUND, {})
    with sessions.begin() as session:
        row = adapters.get_adapter(session, DEFAULT_TENANT, adapter_id)
        assert row.status == "rejected" and row.error is not None and "its worker died" in row.error["detail"]
        assert claim_next(session) is None
