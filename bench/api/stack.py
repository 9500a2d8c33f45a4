"""An API process with its servers, a base, a dataset and any number of jobs."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from sqlalchemy import text

import migrations
from cli.local.embedded.postgres import API, APP
from core.db import datasets, job_claims, models
from core.db.job_claims import Claim
from core.db.session import open_engine
from core.db.tables import DEFAULT_TENANT, Job
from core.domain.artifacts import Artifact, attempt_key
from core.domain.dataset import write_report
from core.domain.ids import new_id
from core.domain.states import DatasetStatus
from core.model_folders import BUNDLED, read_card
from tests.fixtures.bases import write_pictures
from tests.fixtures.running_api import RunningApi, serve_api
from tests.fixtures.servers import start_postgres, start_valkey

NUM_IMAGES = 12
LEASE_SECONDS = 3600.0
MEASURED = {"seconds_per_sample": 0.02, "seconds_per_image": 0.5, "start_seconds": 4.0, "peak_memory_bytes": 10**9}


@dataclass(frozen=True)
class Stack:
    """``job``: one that has succeeded, of which the others are copies. ``body``: makes another."""

    api: RunningApi
    job: str
    body: dict[str, object]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api.api_key}"}

    @property
    def pid(self) -> int:
        assert self.api.process is not None
        return self.api.process.pid


@contextmanager
def open_stack(num_jobs: int, num_uploads: int) -> Iterator[Stack]:
    """``num_uploads``: that a tenant may send at once."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        scratch.chmod(0o711)  # a root user's PostgreSQL, which is not root's, passes through
        postgres, valkey = start_postgres(scratch), start_valkey(scratch)
        try:
            migrations.upgrade(postgres.url_owner, APP, API)
            settings = {"ATELIER_UPLOADS_PER_TENANT": str(num_uploads), "ATELIER_QUOTA_QUEUED_JOBS": "none"}
            with serve_api(postgres.url_app, postgres.url_api, valkey.url, scratch / "home", **settings) as api:
                stack = fill(api, num_jobs, scratch)
                analyze(postgres.url_owner)
                yield stack
        finally:
            valkey.stop()
            postgres.stop()


def analyze(owner_url: str) -> None:
    """As autovacuum would have done by the time that a list is so long: only a table's owner may."""
    engine = open_engine(owner_url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    engine.dispose()


def fill(api: RunningApi, num_jobs: int, scratch: Path) -> Stack:
    """The list has ``num_jobs`` jobs of the size of real ones."""
    body: dict[str, object] = {"model": _add_model(api), "dataset": _add_dataset(api, scratch), "trigger": "zap"}
    answer = httpx.post(f"{api.url}/jobs", json=body, headers={"Authorization": f"Bearer {api.api_key}"})
    answer.raise_for_status()
    stack = Stack(api, answer.json()["id"], body)
    end_job(stack, stack.job)
    copy_job(stack, num_jobs - 1)
    return stack


def _add_model(api: RunningApi) -> str:
    with api.sessions.begin() as session:
        return models.upsert_model(session, read_card(BUNDLED / "tiny"), location="/nowhere").id


def _add_dataset(api: RunningApi, scratch: Path) -> str:
    """Ready; its files are not in storage, for nothing here reads them."""
    manifest, _ = write_pictures(scratch / "pictures", [(64, 64)] * NUM_IMAGES)
    dataset_id = new_id("ds")
    with api.sessions.begin() as session:
        row = datasets.insert_dataset(
            session, dataset_id=dataset_id, tenant_id=DEFAULT_TENANT, name="bench", status=DatasetStatus.READY
        )
        row.manifest, row.manifest_sha256 = manifest.model_dump(mode="json"), manifest.content_hash()
        row.report = write_report(NUM_IMAGES, manifest, [], []).model_dump(mode="json")
    return dataset_id


def end_job(stack: Stack, job_id: str) -> None:
    """As a worker does it for a job that has succeeded; nothing else may be queued. Its files are not in storage."""
    with stack.api.sessions.begin() as session:
        job = job_claims.claim_of(session, DEFAULT_TENANT, slot="bench", lease_seconds=LEASE_SECONDS)
        assert job is not None and job.id == job_id
        claim = Claim(job.id, job.attempt)
        files = {
            f"adapter-{name}": Artifact(key=attempt_key(job.id, job.attempt, name), sha256="0" * 64, size=1)
            for name in ("kohya", "diffusers")
        }
        result = {
            "adapter": {name: file.model_dump(exclude={"key"}) for name, file in files.items()},
            "samples": None, "metrics": {"loss": 0.05, "num_parameters": 64_000}, "measured": MEASURED,
        }  # fmt: skip
        job_claims.write_runtime(session, claim, {"device_name": "bench"})
        job_claims.succeed(session, claim, result=result, artifacts=files)


def copy_job(stack: Stack, count: int) -> None:
    """Other ids that sort before the job's, and nothing else."""
    columns = [column.name for column in Job.__table__.columns if column.name != "id"]
    names = ", ".join(columns)
    copies = text(
        f"INSERT INTO jobs (id, {names}) SELECT 'job_0' || lpad(number::text, 25, '0'), {names} "
        "FROM jobs, generate_series(1, :count) AS number WHERE id = :job"
    )
    with stack.api.sessions.begin() as session:
        session.execute(copies, {"count": count, "job": stack.job})
