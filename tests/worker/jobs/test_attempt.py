"""Jobs through a real PostgreSQL, a real store and a real trainer process: success, kills, stop requests, failures."""

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Never

import psutil
import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from core.db import events, job_claims, jobs, models, slots
from core.db.job_claims import Claim
from core.db.tables import Job, Model, Worker
from core.domain.model import ModelInfo
from core.domain.states import JobStatus, Phase
from core.model_folders import CARD
from core.storage import StorageError, StorageFull, StorageUnavailable, StoredObject
from tests.fixtures.house import LONG, House, house
from tests.fixtures.servers import wait_for
from worker import drain
from worker.device.slot import open_slot

__all__ = ["house"]

SAMPLELESS = {"samples": {"prompts": []}}
SHORTER = {**LONG, "steps": 160}


@pytest.fixture(scope="module")
def undisturbed(house: House) -> dict[str, str]:
    """The adapters of the long job, run without a stop."""
    job_id = house.submit(**SHORTER)
    assert house.run()
    return house.adapters(job_id)


def test_a_job_runs_and_its_results_are_there(house: House) -> None:
    job_id = house.submit(steps=6, checkpoints={"every": 2, "keep": 2}, samples={"every": 3})
    assert house.run()
    job = house.job(job_id)
    assert job.status == JobStatus.SUCCEEDED, job.error
    assert job.phase is None and job.lease_until is None
    with house.sessions() as session:
        assert slots.list_held(session, job_id) == []
    assert job.progress is not None and job.progress["step"] == 6 and job.progress["percent"] == 100
    assert job.runtime is not None and job.runtime["precision"] == "fp32"
    assert job.result is not None
    measured = job.result["measured"]
    assert measured["peak_memory_bytes"] > 10**7
    assert measured["start_seconds"] > 0 and measured["seconds_per_image"] > 0
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
        worker = session.get(Worker, open_slot(house.settings).name)
    assert worker is not None and worker.job_id is None and worker.warm_models == [house.info.id]


def test_a_job_says_what_of_its_captions_was_cut(house: House) -> None:
    job_id = house.submit(steps=1, captions={"max_token_length": 75}, **SAMPLELESS)
    assert house.run()
    job = house.job(job_id)
    with house.sessions() as session:
        notices = [event.data["message"] for event in events.list_events(session, job_id) if event.type == "job.notice"]
    assert len(notices) == 1 and "captions are longer than 75 tokens" in notices[0]
    assert job.result is not None and job.result["note"].endswith(notices[0])


def test_the_last_steps_are_known_before_what_follows_them(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: dict[str, int] = {}

    def note(session: Session, claim: Claim, phase: Phase, enter: Callable[..., None] = job_claims.enter_phase) -> None:
        steps[phase] = (session.get_one(Job, claim.job_id).progress or {}).get("step", 0)
        enter(session, claim, phase)

    monkeypatch.setattr(job_claims, "enter_phase", note)
    monkeypatch.setattr("worker.jobs.reports.PROGRESS_SECONDS", 3600)
    house.submit(steps=3, **SAMPLELESS)
    assert house.run()
    assert (steps["training"], steps["exporting"]) == (0, 3)


def test_nothing_due_is_nothing_done(house: House) -> None:
    assert house.run() is False


@pytest.mark.slow
def test_a_killed_trainer_costs_nothing_but_time(house: House, undisturbed: dict[str, str]) -> None:
    job_id = house.submit(**SHORTER)
    with house.running():
        house.wait_for_step(job_id, 60)
        os.kill(house.trainer_pid, signal.SIGKILL)
    job = house.job(job_id)
    assert (job.status, job.attempt, job.failures) == (JobStatus.QUEUED, 1, 1)
    house.due_now(job_id)
    assert house.run()
    assert house.job(job_id).status == JobStatus.SUCCEEDED
    assert house.adapters(job_id) == undisturbed
    assert "job.notice" in house.event_types(job_id)


@pytest.mark.slow
def test_a_broken_checkpoint_is_passed_over_for_an_older_one(house: House, undisturbed: dict[str, str]) -> None:
    job_id = house.submit(**SHORTER)
    with house.running():
        house.wait_for_step(job_id, 90)
        os.kill(house.trainer_pid, signal.SIGKILL)
    with house.sessions() as session:
        newest, older = job_claims.newest_checkpoints(session, job_id)
    house.storage.put(newest.key, b"rubbish")
    house.due_now(job_id)
    assert house.run()
    assert house.adapters(job_id) == undisturbed
    with house.sessions() as session:
        notices = [event.data["message"] for event in events.list_events(session, job_id) if event.type == "job.notice"]
    assert notices == [f"Resuming from the checkpoint at step {older.step}."]


def test_a_pause_gives_the_device_back_and_a_resume_ends_in_the_same_bytes(
    house: House, undisturbed: dict[str, str]
) -> None:
    job_id = house.submit(**SHORTER)
    with house.running():
        house.wait_for_step(job_id, 50)
        house.ask(jobs.pause_job, job_id)
    assert house.job(job_id).status == JobStatus.PAUSED
    assert (house.settings.home / "work" / job_id).exists(), "the next attempt may be in it already"
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


@pytest.mark.slow
def test_a_hung_trainer_does_not_keep_a_cancel_waiting(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.jobs.stops.STOP_GRACE_SECONDS", 1.0)
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
    worker = open_slot(house.settings)
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
        job_claims.fail(session, job_claims.Claim(job_id, job.attempt), job_claims.TerminationReason.INFRASTRUCTURE, "")


def test_a_drain_puts_the_job_back_uncharged(house: House) -> None:
    job_id = house.submit(**LONG)
    try:
        with house.running():
            house.wait_for_step(job_id, 20)
            drain.request_drain()
        job = house.job(job_id)
        assert (job.status, job.failures) == (JobStatus.QUEUED, 0)
        with house.sessions() as session:
            assert jobs.list_checkpoints(session, job_id), "it continues where it stopped"
        assert house.run() is False, "a draining worker takes nothing new"
    finally:
        drain.requested.clear()
        house.ask(jobs.cancel_job, job_id)


def test_a_job_over_its_time_fails_saying_so(house: House) -> None:
    job_id = house.submit(**LONG, max_duration_seconds=60)
    house.change_plan(job_id, max_duration_seconds=2)
    assert house.run()
    job = house.job(job_id)
    assert job.status == JobStatus.FAILED, house.history(job_id)
    assert job.error is not None and job.error["type"] == "/problems/max-duration"
    assert "max_duration_seconds" in job.error["detail"]


def test_divergence_fails_with_what_to_do(house: House) -> None:
    job_id = house.submit(steps=50, samples={"prompts": []})
    house.change_plan(job_id, learning_rate=1e30, max_grad_norm=1e30)
    assert house.run()
    job = house.job(job_id)
    assert job.status == JobStatus.FAILED
    assert job.error is not None and job.error["type"] == "/problems/nan-loss"
    assert "learning_rate" in job.error["detail"]


def submit_too_large(house: House) -> str:
    """Far more samples a pass than the room that ``starve`` leaves."""
    job_id = house.submit(
        steps=3, loss={"prior_preservation": {"class_prompt": "a cat", "num_images": 2}}, **SAMPLELESS
    )
    house.change_plan(job_id, batch_size=4000)
    return job_id


def starve(house: House) -> None:
    """Leaves a trainer that did a job already 600 MB more of address space than it has."""
    house.submit(steps=1, priority=10, **SAMPLELESS)
    assert house.run()
    trainer = psutil.Process(open_slot(house.settings).warm_trainer().pid)
    room = trainer.memory_info().vms + 600 * 1024**2
    resource.prlimit(trainer.pid, resource.RLIMIT_AS, (room, room))


def test_a_precision_that_the_device_only_emulates_is_said_to_be_slow(house: House) -> None:
    job_id = house.submit(steps=1, precision="fp16", **SAMPLELESS)
    assert house.run()
    messages = [data["message"] for kind, data in house.history(job_id) if kind == "job.notice"]
    assert len(messages) == 1 and "no hardware for fp16" in messages[0]


@pytest.mark.slow
def test_a_job_that_runs_out_of_memory_is_tried_once_more_with_less(house: House) -> None:
    job_id = submit_too_large(house)
    starve(house)
    assert house.run()
    job = house.job(job_id)
    assert (job.status, job.failures) == (JobStatus.QUEUED, 0), house.history(job_id)
    assert job.runtime is not None and job.runtime["memory_reduced"] and job.runtime["gradient_checkpointing"]
    notices = [data for kind, data in house.history(job_id) if kind == "job.notice"]
    assert notices == [{"message": "The device ran out of memory: retrying with gradient checkpointing."}]
    starve(house)
    assert house.run()
    job = house.job(job_id)
    assert job.status == JobStatus.FAILED, house.history(job_id)
    assert job.error is not None and job.error["type"] == "/problems/out-of-memory"
    assert "batch_size" in job.error["detail"]


def test_a_cancel_goes_before_a_lighter_try(house: House) -> None:
    job_id = house.submit(**LONG)
    with house.sessions.begin() as session:
        job = job_claims.claim_next(session, slot="a/cpu/9", lease_seconds=60)
    assert job is not None and job.id == job_id
    house.ask(jobs.cancel_job, job_id)
    with house.sessions.begin() as session:
        job_claims.retry_with_runtime(session, job_claims.Claim(job_id, job.attempt), {"memory_reduced": True}, "less")
    assert house.job(job_id).status == JobStatus.CANCELED and house.job(job_id).runtime is None


def test_a_base_that_this_worker_lacks_gives_the_job_back(house: House) -> None:
    """Another worker may have it, or this one in a moment."""
    job_id = house.submit(steps=2, **SAMPLELESS)
    base, away = house.settings.models_path / "random", house.settings.models_path / ".random.old"
    base.rename(away)
    try:
        assert house.run()
    finally:
        away.rename(base)
    job = house.job(job_id)
    assert (job.status, job.failures, job.error) == (JobStatus.QUEUED, 0, None)
    assert f"no base model {house.info.id}" in str(house.history(job_id)[-1])
    house.due_now(job_id)
    assert house.run()
    assert house.job(job_id).status == JobStatus.SUCCEEDED, house.history(job_id)


@pytest.mark.parametrize(("error", "reason"), [(StorageUnavailable, "does not respond"), (StorageFull, "is full")])
def test_a_job_outlives_any_outage_of_the_storage(
    house: House, monkeypatch: pytest.MonkeyPatch, error: type[StorageError], reason: str
) -> None:
    """More of its attempts than a job may lose by its own fault."""
    job_id = house.submit(steps=2, **SAMPLELESS)

    def fail(*_: object) -> Never:
        raise error("http://minio.internal:9000: no")

    with monkeypatch.context() as away:
        away.setattr("worker.jobs.attempt.fetch_files", fail)
        for _ in range(job_claims.MAX_FAILURES + 1):
            house.due_now(job_id)
            assert house.run()
            job = house.job(job_id)
            assert (job.status, job.failures, job.error) == (JobStatus.QUEUED, 0, None)
    event = str(house.history(job_id)[-1])
    assert reason in event and "minio" not in event
    house.ask(jobs.cancel_job, job_id)


def test_a_job_whose_base_no_worker_has_waits_and_says_why(house: House) -> None:
    job_id = house.submit(steps=2)
    with house.sessions.begin() as session:
        other = {**house.info.model_dump(mode="json"), "id": "elsewhere"}
        session.add(Model(id="elsewhere", status="ready", location="", info=other))
        session.flush()
        session.execute(update(Job).where(Job.id == job_id).values(model_id="elsewhere"))
    for _ in range(job_claims.MAX_FAILURES + 1):
        house.due_now(job_id)
        assert house.run()
        job = house.job(job_id)
        assert (job.status, job.failures) == (JobStatus.QUEUED, 0)
        assert job.run_after > datetime.now(UTC), "others have their turn meanwhile"
    assert "elsewhere" in str(house.history(job_id)[-1])
    house.ask(jobs.cancel_job, job_id)


@contextmanager
def another_base(house: House, *, registered: bool) -> Iterator[None]:
    """In the folder of the house's base, by its id; the workers' table may know of it."""
    card, info = house.settings.models_path / "random" / CARD, house.info.model_copy(update={"sha256": "0" * 64})
    before = card.read_text()

    def write(text: str, info: ModelInfo) -> None:
        card.write_text(text)
        if registered:
            with house.sessions.begin() as session:
                models.upsert_model(session, info, location=str(card.parent))

    write(info.model_dump_json(), info)
    try:
        yield
    finally:
        write(before, house.info)


def test_a_job_is_not_trained_on_a_base_that_took_the_place_of_its_own(house: House) -> None:
    job_id = house.submit(steps=2)
    house.ask(jobs.pause_job, job_id)
    with another_base(house, registered=True):
        house.ask(jobs.resume_job, job_id)
        assert house.run()
    job = house.job(job_id)
    assert job.status == JobStatus.FAILED and job.error is not None, house.history(job_id)
    assert job.error["type"] == "/problems/bad-input"
    assert (
        f"The base model {house.info.id} was replaced after this was planned: submit it again." in job.error["detail"]
    )


def test_a_worker_whose_copy_of_the_base_is_another_gives_the_job_back(house: House) -> None:
    """Submitting again would lead to the same worker: the registered base is still the one that was planned."""
    job_id = house.submit(steps=2, **SAMPLELESS)
    with another_base(house, registered=False):
        assert house.run()
    job = house.job(job_id)
    assert (job.status, job.failures, job.error) == (JobStatus.QUEUED, 0, None)
    assert "is not the registered one" in str(house.history(job_id)[-1])
    house.due_now(job_id)
    assert house.run()
    assert house.job(job_id).status == JobStatus.SUCCEEDED, house.history(job_id)


def test_a_base_that_is_replaced_while_pictures_are_fetched_is_noticed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = house.submit(steps=2)
    with ExitStack() as stack:

        def fetch(key: str, path: Path) -> StoredObject:
            stored = type(house.storage).fetch(house.storage, key, path)
            if path.name.endswith(f"{house.manifest.images[-1].sha256}.png"):
                stack.enter_context(another_base(house, registered=False))
            return stored

        monkeypatch.setattr(open_slot(house.settings).storage, "fetch", fetch)
        assert house.run()
    assert house.job(job_id).status == JobStatus.QUEUED
    assert "is not the registered one" in str(house.history(job_id)[-1])
    house.ask(jobs.cancel_job, job_id)


def test_a_cancel_is_heard_before_the_trainer_has_the_job(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of pictures take minutes to fetch."""
    job_id = house.submit(**LONG)
    fetched: list[str] = []

    def fetch_slowly(key: str, path: Path) -> StoredObject:
        fetched.append(key)
        if len(fetched) == 1:
            house.ask(jobs.cancel_job, job_id)
            wait_for(lambda: runner_heard(house, job_id), 60)
        return type(house.storage).fetch(house.storage, key, path)

    monkeypatch.setattr(open_slot(house.settings).storage, "fetch", fetch_slowly)
    with house.running():
        pass
    assert house.job(job_id).status == JobStatus.CANCELED
    assert len(fetched) == 1
    assert not (house.settings.home / "work" / job_id).exists()


def runner_heard(house: House, job_id: str) -> bool:
    """Two beats after the cancel the heart has heard of it."""
    job = house.job(job_id)
    before = job.lease_until
    wait_for(lambda: house.job(job_id).lease_until != before, 60)
    return job.status == JobStatus.CANCELING


@pytest.mark.slow
def test_a_full_disk_gives_the_job_back_and_the_next_one_a_fresh_trainer(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = house.submit(**{**LONG, "checkpoints": {"every": 5}})
    worker = open_slot(house.settings)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(worker.storage, "put_file", fail)
    with house.running():
        pid = house.trainer_pid
    job = house.job(job_id)
    assert (job.status, job.failures) == (JobStatus.QUEUED, 1)
    assert "OSError" in str(house.history(job_id)[-1])
    assert not psutil.pid_exists(pid), "it would go on reporting, and the next job's worker would listen"
    house.ask(jobs.cancel_job, job_id)


def test_the_folder_of_a_job_that_ended_elsewhere_is_removed(house: House) -> None:
    ended, waiting = house.submit(**LONG), house.submit(**LONG)
    folders = {job_id: house.settings.home / "work" / job_id for job_id in (ended, waiting, "job_deleted")}
    for folder in folders.values():
        (folder / "images").mkdir(parents=True)
    house.ask(jobs.cancel_job, ended)
    house.ask(jobs.pause_job, waiting)
    assert house.run() is False
    assert {job_id for job_id, folder in folders.items() if folder.exists()} == {waiting}
    house.ask(jobs.cancel_job, waiting)
    house.run()


def test_a_plan_of_another_version_is_given_back(house: House) -> None:
    job_id = house.submit(**LONG)
    house.change_plan(job_id, unheard_of=1)
    assert house.run()
    assert (house.job(job_id).status, house.job(job_id).failures) == (JobStatus.QUEUED, 1)
    assert "another version" in str(house.history(job_id)[-1])
    house.ask(jobs.cancel_job, job_id)


def test_a_worker_is_seen_while_it_works(house: House) -> None:
    job_id = house.submit(**LONG)

    def seen() -> Worker:
        with house.sessions() as session:
            return session.get_one(Worker, open_slot(house.settings).name)

    with open_slot(house.settings).staying_registered(), house.running():  # as the task `train` does it
        house.wait_for_step(job_id, 1)
        first = seen()
        wait_for(lambda: seen().seen_at > first.seen_at, 60)
        assert first.job_id == job_id
        house.ask(jobs.cancel_job, job_id)
    assert seen().job_id is None
