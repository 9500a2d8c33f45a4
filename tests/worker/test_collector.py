"""What nobody names goes from all three stores, and nothing else does."""

import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from core.db import job_claims
from core.db.job_claims import Claim
from core.db.tables import DEFAULT_TENANT, Adapter, Dataset, DatasetFile, Job, Model, Tenant
from core.domain.artifacts import (
    Artifact,
    adapter_key,
    adapter_upload_key,
    attempt_key,
    image_key,
    upload_key,
)
from core.domain.states import DatasetStatus, JobStatus
from core.storage import MemoryStorage, Storage, open_storage
from tests.worker.conftest import Start, wait_until
from worker.collector import MARK, Collector

NOW = datetime.now(UTC)
PLAN = {"name": "a", "trigger": "a", "model_sha256": "0", "family": "sd1", "adapter_type": "lora", "rank": 4}
ALL_ARE_OLD, ALL_ARE_YOUNG = NOW + timedelta(days=1), NOW - timedelta(days=1)


@pytest.fixture
def store(location: tuple[str, str | None]) -> Storage:
    return open_storage(location[0], s3_endpoint_url=location[1])


def add_dataset(sessions: sessionmaker[Session], dataset_id: str, status: DatasetStatus, *keys: str) -> None:
    with sessions.begin() as session:
        manifest = {"images": [{"key": key} for key in keys]}
        session.add(Dataset(id=dataset_id, tenant_id=DEFAULT_TENANT, status=status, manifest=manifest))


def announce(sessions: sessionmaker[Session], dataset_id: str, key: str) -> None:
    """The upload of one file; an earlier one under its name has another key, and no row any more."""
    with sessions.begin() as session:
        session.add(
            DatasetFile(id=f"{dataset_id}_1", dataset_id=dataset_id, filename="1", key=key, sha256="0" * 64, size=1)
        )


def add_job(sessions: sessionmaker[Session], job_id: str) -> Claim:
    """A running one, that names a checkpoint, samples and an adapter."""
    with sessions.begin() as session:
        session.merge(Model(id="m", status="ready", location="", info={}))
        session.merge(Dataset(id="ds_of_jobs", tenant_id=DEFAULT_TENANT, status="ready"))
        session.flush()
        job = Job(
            id=job_id, tenant_id=DEFAULT_TENANT, model_id="m", dataset_id="ds_of_jobs", status=JobStatus.RUNNING,
            attempt=2, spec={}, plan=PLAN, estimate={},
        )  # fmt: skip
        session.add(job)
        session.flush()
        claim = Claim(job_id, 2)
        job_claims.add_checkpoint(session, claim, step=1, loss=0.1, artifact=artifact(job_id, "step-1"), keep=2)
        picture = artifact(job_id, "0.png").model_dump()
        job_claims.add_sample(session, claim, step=1, images=[picture], grid=artifact(job_id, "grid.png"))
    return claim


def add_import(sessions: sessionmaker[Session], adapter_id: str, status: str, *keys: str) -> None:
    with sessions.begin() as session:
        session.add(
            Adapter(
                id=adapter_id, tenant_id=DEFAULT_TENANT, source="import", status=status, name="a", model_id="m",
                model_sha256="0", family="sd1", files={key: {"key": key} for key in keys},
            )
        )  # fmt: skip


def artifact(job_id: str, name: str) -> Artifact:
    return Artifact(key=attempt_key(job_id, 2, name), sha256="0", size=1)


def keys_of(store: Storage) -> set[str]:
    return {found.key for found in store.list("")} - {MARK}


@pytest.mark.parametrize("kind", ["directory", "s3", "memory"])
def test_what_ended_jobs_and_settled_datasets_do_not_name_is_collected(
    store: Storage, sessions: sessionmaker[Session]
) -> None:
    ended, running = add_job(sessions, "job_ended"), add_job(sessions, "job_running")
    with sessions.begin() as session:
        job_claims.succeed(session, ended, result={}, artifacts={"adapter-kohya": artifact("job_ended", "adapter")})
    add_dataset(sessions, "ds_ready", DatasetStatus.READY, image_key("ds_ready", "a"))
    add_dataset(sessions, "ds_open", DatasetStatus.OPEN)
    announce(sessions, "ds_open", upload_key("ds_open", "1"))
    add_dataset(sessions, "ds_busy", DatasetStatus.VALIDATING)
    add_dataset(sessions, "ds_rejected", DatasetStatus.REJECTED)
    add_import(sessions, "ad_ready", "ready", adapter_key("ad_ready", 2, "a"))
    add_import(sessions, "ad_busy", "checking")
    needed = {artifact("job_ended", name).key for name in ("step-1", "0.png", "grid.png", "adapter")}
    needed |= {artifact(running.job_id, name).key for name in ("step-1", "a-late-checkpoint")}
    needed |= {image_key("ds_ready", "a"), image_key("ds_busy", "a")}
    needed |= {upload_key("ds_open", "1"), upload_key("ds_busy", "1")}
    needed |= {adapter_key("ad_ready", 2, "a"), adapter_upload_key("ad_busy"), adapter_key("ad_busy", 1, "a")}
    needed |= {"datasets/of-somebody-else/a.png", "jobs/notes.txt", "elsewhere/a"}
    unneeded = {attempt_key("job_ended", 1, "lost"), attempt_key("job_deleted", 1, "adapter")}
    unneeded |= {upload_key("ds_ready", "1"), image_key("ds_ready", "b"), upload_key("ds_gone", "1")}
    unneeded |= {upload_key("ds_rejected", "1"), upload_key("ds_open", "0")}
    unneeded |= {adapter_key("ad_ready", 1, "a"), adapter_upload_key("ad_ready"), adapter_upload_key("ad_gone")}
    for key in needed | unneeded:
        store.put(key, b"x")
    collector = Collector(sessions, store)

    assert collector.collect(ALL_ARE_YOUNG) == 0
    assert keys_of(store) == needed | unneeded
    assert collector.collect(ALL_ARE_OLD) == len(unneeded)
    assert keys_of(store) == needed
    assert collector.collect(ALL_ARE_OLD) == 0


def test_images_that_revisions_share_are_kept(sessions: sessionmaker[Session]) -> None:
    """Also of a dataset that was deleted; a revision that was rejected shares none."""
    store = MemoryStorage()
    kept = {image_key("ds_gone", "a"), image_key("ds_parent", "a"), image_key("ds_parent", "b")}
    for key in (*kept, image_key("ds_gone", "b"), image_key("ds_parent", "c"), image_key("ds_revision", "a")):
        store.put(key, b"x")
    add_dataset(sessions, "ds_parent", DatasetStatus.READY, image_key("ds_parent", "a"))
    add_dataset(sessions, "ds_revision", DatasetStatus.READY, image_key("ds_gone", "a"))
    add_dataset(sessions, "ds_waiting", DatasetStatus.VALIDATING, image_key("ds_parent", "b"))

    assert Collector(sessions, store).collect(ALL_ARE_OLD) == 3
    assert keys_of(store) == kept


@pytest.mark.parametrize("kind", ["directory", "s3", "memory"])
def test_another_database_collects_nothing(store: Storage, sessions: sessionmaker[Session]) -> None:
    """Such as a new one, after the old was lost: to it everything looks like nobody's."""
    Collector(sessions, store).collect(ALL_ARE_OLD)
    store.put(attempt_key("job_precious", 1, "adapter"), b"x")
    with sessions.begin() as session:
        session.execute(update(Tenant).values(created_at=NOW))

    assert Collector(sessions, store).collect(ALL_ARE_OLD) == 0
    assert keys_of(store) == {attempt_key("job_precious", 1, "adapter")}
    store.delete(MARK)
    assert Collector(sessions, store).collect(ALL_ARE_OLD) == 1, "the operator has said so"


def test_the_steward_that_leads_collects_what_is_older_than_a_day(
    start: Start, storage: Storage, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    old, young = attempt_key("job_gone", 1, "old"), attempt_key("job_gone", 1, "young")
    for key in (old, young):
        storage.put(key, b"x")
    yesterday = time.time() - 25 * 3600
    os.utime(tmp_path / "storage" / old, (yesterday, yesterday))

    steward = start(sys.executable, "-m", "worker.steward")

    wait_until(lambda: storage.stat(old) is None, lambda: steward.log)
    assert storage.stat(young) is not None
    assert steward.terminate() == 0
