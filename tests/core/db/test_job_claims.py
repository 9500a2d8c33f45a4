"""The workers' side of jobs, on PostgreSQL: who ends a job, and what a claim brings along."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import inspect
from sqlalchemy.orm import Session, sessionmaker

from core.db import events, job_claims, jobs
from core.db.job_claims import Claim
from core.db.leases import LostLease
from core.db.tables import DEFAULT_TENANT, Dataset, Job, JobEvent, Model
from core.domain.artifacts import Artifact
from core.domain.estimate import Measured
from core.domain.events import EventType
from core.domain.ids import new_id
from core.domain.states import JobStatus, TerminationReason

PLAN = {
    "name": "zap", "trigger": "zap", "model_sha256": "0", "family": "sd1", "adapter_type": "lora", "rank": 4,
    "steps": 7, "resolution": 64, "images": [{"key": "a"}, {"key": "b"}],
}  # fmt: skip
END = {
    "success": lambda session, claim: job_claims.succeed(
        session, claim, result={}, artifacts={"adapter-kohya": Artifact(key="k", sha256="0", size=1)}
    ),
    "failure": lambda session, claim: job_claims.fail(session, claim, TerminationReason.NAN_LOSS, ""),
}


@pytest.fixture
def claim(sessions: sessionmaker[Session]) -> Claim:
    with sessions.begin() as session:
        session.add(Model(id="m", status="ready", location="", info={}))
        session.add(Dataset(id="ds_1", tenant_id=DEFAULT_TENANT, status="ready"))
    return submit_and_claim(sessions)


@pytest.mark.parametrize("end", END.values(), ids=END)
def test_a_job_that_was_canceled_before_its_end_is_canceled_at_once(
    sessions: sessionmaker[Session], claim: Claim, end: Callable[[Session, Claim], JobStatus]
) -> None:
    """Not only when its lease runs out."""
    with sessions.begin() as session:
        jobs.cancel_job(session, DEFAULT_TENANT, claim.job_id)
    with sessions.begin() as session:
        assert end(session, claim) == JobStatus.CANCELED
    with sessions() as session:
        job = jobs.get_job(session, DEFAULT_TENANT, claim.job_id)
        last = events.list_events(session, claim.job_id)[-1]
        assert jobs.get_artifact(session, claim.job_id, "adapter-kohya") is None
    assert (job.status, job.result, job.error) == (JobStatus.CANCELED, None, None)
    assert job.finished_at is not None
    assert (last.type, last.data) == (EventType.CANCELED, {"reason": "requested"})


@pytest.mark.parametrize("end", END.values(), ids=END)
def test_a_late_worker_ends_nothing(
    sessions: sessionmaker[Session], claim: Claim, end: Callable[[Session, Claim], JobStatus]
) -> None:
    with sessions.begin() as session:
        job_claims.retry(session, claim, "away")
    with pytest.raises(LostLease), sessions.begin() as session:
        end(session, claim)


def test_a_repeated_step_is_overwritten_and_keeps_its_held_out_loss(
    sessions: sessionmaker[Session], claim: Claim
) -> None:
    def add(*losses: tuple[int, float]) -> None:
        rows = [{"step": step, "loss": loss, "learning_rate": 0.1, "seconds_per_step": 1.0} for step, loss in losses]
        with sessions.begin() as session:
            job_claims.add_metrics(session, claim, rows)

    add()
    add((1, 0.5), (2, 0.4), (2, 0.3))
    with sessions.begin() as session:
        job_claims.add_validation(session, claim, step=2, loss=0.7)
    add((2, 0.2), (3, 0.1))
    with sessions() as session:
        rows = [(row.step, row.loss, row.validation_loss) for row in jobs.list_metrics(session, claim.job_id)]
    assert rows == [(1, 0.5, None), (2, 0.2, 0.7), (3, 0.1, None)]


def test_a_drained_job_says_why_it_is_back(sessions: sessionmaker[Session], claim: Claim) -> None:
    with sessions.begin() as session:
        assert job_claims.acknowledge_stop(session, claim) == JobStatus.QUEUED
    with sessions() as session:
        assert events.list_events(session, claim.job_id)[-1].data == {"reason": "the worker was shut down"}


def test_pauses_and_waits_are_no_time_at_work(sessions: sessionmaker[Session], claim: Claim) -> None:
    """Attempts of 100 and 20 seconds, an hour apart each."""
    with sessions.begin() as session:
        start = events.list_events(session, claim.job_id)[-1].created_at
        moments = [
            (EventType.PAUSED, 100),
            (EventType.QUEUED, 3600),
            (EventType.RUNNING, 7200),
            (EventType.PHASE, 7210),
            (EventType.QUEUED, 7220),
            (EventType.RUNNING, 9999),
        ]
        for number, (kind, seconds) in enumerate(moments, start=2):
            event = JobEvent(id=new_id("evt"), job_id=claim.job_id, seq=number, type=kind, attempt=1, data={})
            event.created_at = start + timedelta(seconds=seconds)
            session.add(event)
    with sessions() as session:
        assert job_claims.count_seconds_worked(session, claim.job_id) == 120.0


def test_ended_and_unknown_jobs_are_not_unfinished(sessions: sessionmaker[Session], claim: Claim) -> None:
    with sessions.begin() as session:
        assert job_claims.list_unfinished(session, [claim.job_id, "job_none"]) == {claim.job_id}
        job_claims.fail(session, claim, TerminationReason.NAN_LOSS, "")
        assert job_claims.list_unfinished(session, [claim.job_id, "job_none"]) == set()


def test_reading_jobs_leaves_their_images_in_the_database(sessions: sessionmaker[Session], claim: Claim) -> None:
    with sessions() as session:
        found, _ = jobs.list_jobs(session, DEFAULT_TENANT)
        for job in (*found, jobs.get_job(session, DEFAULT_TENANT, claim.job_id)):
            assert "plan" in inspect(job).unloaded
            assert "images" not in job.outline
            assert job.outline == {"num_images": 2} | {key: PLAN[key] for key in PLAN if key != "images"}
        assert found[0].plan == PLAN


def test_a_changed_job_can_be_shown_when_its_session_is_over(sessions: sessionmaker[Session], claim: Claim) -> None:
    with sessions.begin() as session:
        job = jobs.cancel_job(session, DEFAULT_TENANT, claim.job_id)
    assert (job.status, job.outline["num_images"]) == (JobStatus.CANCELING, 2)


def test_an_estimate_rests_on_undisturbed_jobs_alone(sessions: sessionmaker[Session], claim: Claim) -> None:
    measured = {"seconds_per_sample": 0.2, "peak_memory_bytes": 5000}
    assert succeed_with(sessions, claim, measured) is None
    whole = {**measured, "seconds_per_image": 0.5, "start_seconds": 9.0}
    for seconds in (7.0, 11.0):
        found = succeed_with(sessions, submit_and_claim(sessions), {**whole, "start_seconds": seconds})
    assert found is not None and (found.num_jobs, found.start_seconds, found.seconds_per_image) == (2, 7.0, 0.5)
    assert (found.resolution, found.peak_memory_bytes) == (64, 5000)


def test_an_estimate_weighs_jobs_by_their_resolution(sessions: sessionmaker[Session], claim: Claim) -> None:
    """A picture of twice the side is four times the work."""
    assert succeed_with(sessions, claim, {"peak_memory_bytes": 1.0}) is None
    measured = {"peak_memory_bytes": 1.0, "start_seconds": 5.0}
    for resolution, seconds in ((64, 0.25), (64, 0.25), (128, 1.0)):
        took = {**measured, "seconds_per_sample": seconds, "seconds_per_image": 2 * seconds}
        found = succeed_with(sessions, submit_and_claim(sessions, resolution), took)
    assert found is not None and (found.num_jobs, found.resolution) == (3, 128)
    assert (found.seconds_per_sample, found.seconds_per_image, found.start_seconds) == (1.0, 2.0, 5.0)


def test_one_slow_run_does_not_spoil_an_estimate(sessions: sessionmaker[Session], claim: Claim) -> None:
    measured = {"peak_memory_bytes": 1.0, "start_seconds": 5.0, "seconds_per_image": 0.5}
    succeed_with(sessions, claim, {**measured, "seconds_per_sample": 0.2})
    for seconds in (20.0, 0.21, 0.19):
        found = succeed_with(sessions, submit_and_claim(sessions), {**measured, "seconds_per_sample": seconds})
        assert found is not None and found.seconds_per_sample == pytest.approx(0.2, abs=0.015)


def test_an_estimate_rests_on_the_device_that_ran_last(sessions: sessionmaker[Session], claim: Claim) -> None:
    measured = {"peak_memory_bytes": 1.0, "start_seconds": 5.0, "seconds_per_image": 0.5}
    held, found = claim, None
    for device, seconds in (("gpu", 0.01), ("cpu", 2.0), ("gpu", 0.02), ("gpu", 0.03)):
        with sessions.begin() as session:
            job_claims.write_runtime(session, held, {"device_name": device})
        found = succeed_with(sessions, held, {**measured, "seconds_per_sample": seconds})
        held = submit_and_claim(sessions)
    assert found is not None
    assert (found.device, found.num_jobs, found.seconds_per_sample) == ("gpu", 3, pytest.approx(0.02))


def succeed_with(sessions: sessionmaker[Session], claim: Claim, measured: dict[str, float]) -> Measured | None:
    with sessions.begin() as session:
        job_claims.succeed(
            session,
            claim,
            result={"measured": measured},
            artifacts={"adapter-kohya": Artifact(key="k", sha256="0", size=1)},
        )
    with sessions() as session:
        return jobs.measure_model(session, DEFAULT_TENANT, "m")


def submit_and_claim(sessions: sessionmaker[Session], resolution: int = 64) -> Claim:
    with sessions.begin() as session:
        job = Job(
            id=new_id("job"), tenant_id=DEFAULT_TENANT, model_id="m", dataset_id="ds_1", status=JobStatus.QUEUED,
            spec={}, plan=PLAN | {"resolution": resolution}, estimate={},
        )  # fmt: skip
        session.add(job)
    with sessions.begin() as session:
        taken = job_claims.claim_next(session, slot="a/cpu/0", lease_seconds=60)
        assert taken is not None
        return Claim(taken.id, taken.attempt)
