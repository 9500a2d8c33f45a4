"""Jobs through a real PostgreSQL, a real store and a real trainer process: success, kills, wishes, failures."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from core.db import claims, events, jobs
from core.db.session import make_sessions, open_engine
from core.db.tables import DEFAULT_TENANT, Dataset, Job, Model, Worker
from core.domain.dataset import DatasetManifest
from core.domain.model import ModelInfo
from core.domain.plan import Estimate, resolve
from core.domain.spec import TrainingSpec
from core.domain.states import JobStatus
from core.settings import Settings
from core.storage import Storage, open_storage
from tests.fixtures.bases import write_pictures, write_random_base
from tests.fixtures.database import fresh_database, in_database
from tests.fixtures.servers import PostgresHandle, wait_for
from worker import runner

LONG = {"steps": 4000, "checkpoints": {"every": 40}, "samples": {"prompts": []}}


@dataclass
class House:
    """Everything a worker needs, and a hand on the jobs."""

    settings: Settings
    sessions: sessionmaker[Session]
    storage: Storage
    manifest: DatasetManifest
    info: ModelInfo

    def submit(self, **spec: object) -> str:
        parsed = TrainingSpec.model_validate({"trigger": "zap", "precision": "fp32", **spec})
        plan = resolve(parsed, self.manifest, self.info)
        with self.sessions.begin() as session:
            return jobs.insert_job(
                session,
                tenant_id=DEFAULT_TENANT,
                model_id=self.info.id,
                dataset_id="ds_1",
                spec=parsed,
                plan=plan,
                estimate=Estimate(steps=plan.steps, seconds=None, peak_memory_bytes=None, adapter_bytes=1, basis=""),
            ).id

    def job(self, job_id: str) -> Job:
        with self.sessions() as session:
            return jobs.get_job(session, DEFAULT_TENANT, job_id)

    def ask(self, wish: Callable[[Session, str, str], Job], job_id: str) -> None:
        with self.sessions.begin() as session:
            wish(session, DEFAULT_TENANT, job_id)

    def run(self) -> bool:
        return runner.run_next(self.settings)

    def running(self) -> "Running":
        return Running(self)

    def wait_for_step(self, job_id: str, step: int) -> None:
        wait_for(lambda: ((self.job(job_id).progress or {}).get("step", 0)) >= step, 120)

    def due_now(self, job_id: str) -> None:
        """Takes the backoff away."""
        with self.sessions.begin() as session:
            session.execute(update(Job).where(Job.id == job_id).values(run_after=Job.created_at))

    def adapters(self, job_id: str) -> dict[str, str]:
        with self.sessions() as session:
            found = {kind: jobs.get_artifact(session, job_id, f"adapter-{kind}") for kind in ("kohya", "diffusers")}
        return {kind: artifact.sha256 for kind, artifact in found.items() if artifact is not None}

    def history(self, job_id: str) -> list[tuple[str, object]]:
        with self.sessions() as session:
            return [(event.type, event.data) for event in events.list_events(session, job_id)]

    def event_types(self, job_id: str) -> list[str]:
        with self.sessions() as session:
            return [event.type for event in events.list_events(session, job_id)]

    @property
    def trainer_pid(self) -> int:
        trainer = runner.open_worker(self.settings).trainer
        assert trainer is not None
        return trainer.pid


class Running:
    """A worker that runs one job in a thread. The trainer is started from here: it dies with the thread that did."""

    def __init__(self, house: House) -> None:
        self._worker = runner.open_worker(house.settings)
        self._thread = threading.Thread(target=house.run)

    def __enter__(self) -> "Running":
        self._worker.warm_trainer()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(timeout=120)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def house(
    postgres: PostgresHandle,
    template_database: str,
    valkey: object,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[House]:
    home = tmp_path_factory.mktemp("home")
    info = write_random_base(home / "models" / "random")
    manifest, files = write_pictures(home / "pictures", [(64, 64)] * 4)
    storage = open_storage(str(home / "storage"))
    for image in manifest.images:
        storage.put_file(image.key, files[image.sha256])
    with fresh_database(postgres, template_database) as name:
        settings = Settings(
            home=home,
            database_url=in_database(postgres.url_app, name),
            redis_url=valkey.url,  # type: ignore[attr-defined]
            cpu_threads=1,
            heartbeat_seconds=0.3,
            lease_seconds=10,
        )
        engine = open_engine(settings.database_url)
        made = House(settings, make_sessions(engine), storage, manifest, info)
        with made.sessions.begin() as session:
            session.add(Model(id=info.id, status="ready", location="", info=info.model_dump(mode="json")))
            session.add(Dataset(id="ds_1", tenant_id=DEFAULT_TENANT, status="ready"))
        yield made
        runner.open_worker(settings).drop_trainer()
        engine.dispose()
        runner.open_worker(settings).sessions.kw["bind"].dispose()


@pytest.fixture(scope="module")
def undisturbed(house: House) -> dict[str, str]:
    """The adapters of the long job, run without a stop."""
    job_id = house.submit(**{**LONG, "steps": 400})
    assert house.run()
    return house.adapters(job_id)


def test_a_job_runs_and_its_results_are_there(house: House) -> None:
    job_id = house.submit(steps=6, checkpoints={"every": 2, "keep": 2}, samples={"every": 3})
    assert house.run()
    job = house.job(job_id)
    assert job.status == JobStatus.SUCCEEDED, job.error
    assert job.phase is None and job.slot is None and job.lease_until is None
    assert job.progress is not None and job.progress["step"] == 6 and job.progress["percent"] == 100
    assert job.runtime is not None and job.runtime["precision"] == "fp32"
    assert job.result is not None and job.result["measured"]["peak_memory_bytes"] > 10**7
    with house.sessions() as session:
        assert [row.step for row in jobs.list_metrics(session, job_id)] == [1, 2, 3, 4, 5, 6]
        checkpoints = jobs.list_checkpoints(session, job_id)
        samples = jobs.list_samples(session, job_id)
        artifact = jobs.get_artifact(session, job_id, "adapter-kohya")
    assert [row.step for row in checkpoints] == [4, 6]
    assert [row.step for row in samples] == [0, 3, 6]
    assert artifact is not None
    kept = [artifact, *checkpoints]
    for row in kept:
        stat = house.storage.stat(row.key)
        assert stat is not None and stat.size == row.size
    assert house.storage.read(samples[-1].grid["key"])[:4] == b"\x89PNG"
    stored = [row.key for row in house.storage.list(f"jobs/{job_id}/") if "checkpoints" in row.key]
    assert stored == [row.key for row in checkpoints], "old checkpoints are removed from the store"
    assert not (house.settings.home / "work" / job_id).exists()
    types = house.event_types(job_id)
    assert types[:2] == ["job.queued", "job.running"] and types[-1] == "job.succeeded"
    with house.sessions() as session:
        worker = session.get(Worker, runner.open_worker(house.settings).slot)
    assert worker is not None and worker.job_id is None and worker.warm_model == house.info.id


def test_nothing_due_is_nothing_done(house: House) -> None:
    assert house.run() is False


def test_a_killed_trainer_costs_nothing_but_time(house: House, undisturbed: dict[str, str]) -> None:
    job_id = house.submit(**{**LONG, "steps": 400})
    with house.running():
        house.wait_for_step(job_id, 100)
        os.kill(house.trainer_pid, signal.SIGKILL)
    job = house.job(job_id)
    assert (job.status, job.attempt, job.failures) == (JobStatus.QUEUED, 1, 1)
    house.due_now(job_id)
    assert house.run()
    assert house.job(job_id).status == JobStatus.SUCCEEDED
    assert house.adapters(job_id) == undisturbed
    assert "job.notice" in house.event_types(job_id)


def test_a_broken_checkpoint_is_passed_over_for_an_older_one(house: House, undisturbed: dict[str, str]) -> None:
    job_id = house.submit(**{**LONG, "steps": 400})
    with house.running():
        house.wait_for_step(job_id, 130)
        os.kill(house.trainer_pid, signal.SIGKILL)
    with house.sessions() as session:
        newest, older = claims.newest_checkpoints(session, job_id)
    house.storage.put(newest.key, b"rubbish")
    house.due_now(job_id)
    assert house.run()
    assert house.adapters(job_id) == undisturbed
    with house.sessions() as session:
        notices = [event.data["message"] for event in events.list_events(session, job_id) if event.type == "job.notice"]
    assert notices == [f"Goes on from the checkpoint at step {older.step}."]


def test_a_pause_gives_the_device_back_and_a_resume_ends_in_the_same_bytes(
    house: House, undisturbed: dict[str, str]
) -> None:
    job_id = house.submit(**{**LONG, "steps": 400})
    with house.running():
        house.wait_for_step(job_id, 50)
        house.ask(jobs.pause_job, job_id)
    assert house.job(job_id).status == JobStatus.PAUSED
    assert house.run() is False
    house.ask(jobs.resume_job, job_id)
    assert house.run()
    assert house.job(job_id).status == JobStatus.SUCCEEDED
    assert house.adapters(job_id) == undisturbed


def test_a_canceled_job_leaves_no_adapter(house: House) -> None:
    job_id = house.submit(**LONG)
    with house.running():
        house.wait_for_step(job_id, 20)
        house.ask(jobs.cancel_job, job_id)
    job = house.job(job_id)
    assert job.status == JobStatus.CANCELED and job.finished_at is not None
    assert house.adapters(job_id) == {}
    assert psutil.Process(house.trainer_pid).is_running(), "the trainer stays warm"


def test_a_hung_trainer_does_not_keep_a_cancel_waiting(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.attempt.STOP_GRACE_SECONDS", 1.0)
    job_id = house.submit(**LONG)
    with house.running():
        house.wait_for_step(job_id, 20)
        pid = house.trainer_pid
        os.kill(pid, signal.SIGSTOP)
        house.ask(jobs.cancel_job, job_id)
    assert house.job(job_id).status == JobStatus.CANCELED
    assert not psutil.pid_exists(pid)


def test_a_stalled_trainer_is_killed_and_the_job_tried_again(house: House) -> None:
    job_id = house.submit(**LONG)
    worker = runner.open_worker(house.settings)
    try:
        with house.running():
            house.wait_for_step(job_id, 20)
            worker.settings = house.settings.model_copy(update={"stall_seconds": 1.0})
            os.kill(house.trainer_pid, signal.SIGSTOP)
        assert house.job(job_id).status == JobStatus.QUEUED
    finally:
        worker.settings = house.settings
        house.ask(jobs.cancel_job, job_id)


def test_a_worker_that_lost_its_lease_writes_nothing(house: House) -> None:
    job_id = house.submit(**LONG)
    with house.running():
        house.wait_for_step(job_id, 20)
        with house.sessions.begin() as session:
            session.execute(update(Job).where(Job.id == job_id).values(attempt=Job.attempt + 1))
            written = len(events.list_events(session, job_id))
    job = house.job(job_id)
    assert job.status == JobStatus.RUNNING, "the job is the other attempt's"
    assert len(house.event_types(job_id)) == written
    with house.sessions.begin() as session:
        claims.fail(session, claims.Claim(job_id, job.attempt), claims.TerminationReason.INFRASTRUCTURE, "")


def test_a_drain_puts_the_job_back_uncharged(house: House) -> None:
    job_id = house.submit(**LONG)
    try:
        with house.running():
            house.wait_for_step(job_id, 20)
            runner.request_drain()
        job = house.job(job_id)
        assert (job.status, job.failures) == (JobStatus.QUEUED, 0)
        with house.sessions() as session:
            assert jobs.list_checkpoints(session, job_id), "it goes on from where it was"
        assert house.run() is False, "a draining worker takes nothing new"
    finally:
        runner._drain.clear()
        house.ask(jobs.cancel_job, job_id)


def test_a_job_over_its_time_fails_saying_so(house: House) -> None:
    job_id = house.submit(**LONG, max_duration_seconds=60)
    with house.sessions.begin() as session:
        session.execute(
            update(Job).where(Job.id == job_id).values(plan={**house.job(job_id).plan, "max_duration_seconds": 2})
        )
    assert house.run()
    job = house.job(job_id)
    assert job.status == JobStatus.FAILED, house.history(job_id)
    assert job.error is not None and job.error["type"] == "/problems/max-duration"
    assert "max_duration_seconds" in job.error["detail"]


def test_divergence_fails_with_what_to_do(house: House) -> None:
    job_id = house.submit(steps=50, samples={"prompts": []})
    with house.sessions.begin() as session:
        wild = {**house.job(job_id).plan, "learning_rate": 1e30, "max_grad_norm": 1e30}
        session.execute(update(Job).where(Job.id == job_id).values(plan=wild))
    assert house.run()
    job = house.job(job_id)
    assert job.status == JobStatus.FAILED
    assert job.error is not None and job.error["type"] == "/problems/nan-loss"
    assert "learning_rate" in job.error["detail"]


def test_a_base_that_this_worker_lacks_fails_the_job(house: House) -> None:
    job_id = house.submit(steps=2)
    with house.sessions.begin() as session:
        other = {**house.info.model_dump(mode="json"), "id": "elsewhere"}
        session.add(Model(id="elsewhere", status="ready", location="", info=other))
        session.flush()
        session.execute(update(Job).where(Job.id == job_id).values(model_id="elsewhere"))
    assert house.run()
    job = house.job(job_id)
    assert job.status == JobStatus.FAILED and job.error is not None and "elsewhere" in job.error["detail"]
