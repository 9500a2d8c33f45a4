"""A job under everything that clients, workers and the steward may do, in any order, on PostgreSQL.

A model in plain Python says what should be so; after every rule the database is compared with it, and its whole
history read: seq without gaps, attempts that never go back, states that only follow by the table, nothing after the
end. Workers keep the claims that they lost, and go on writing with them: nothing of that may show.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from core.db import events, job_claims, jobs, slots
from core.db.job_claims import Claim
from core.db.leases import LostLease
from core.db.tables import DEFAULT_TENANT, Dataset, Job, JobCheckpoint, JobMetric, JobSample, Model
from core.domain.artifacts import Artifact
from core.domain.errors import WrongState
from core.domain.events import FINAL_EVENTS, EventType
from core.domain.ids import new_id
from core.domain.states import HELD, TERMINAL, JobStatus, Phase, TerminationReason, may_follow

ARTIFACT = Artifact(key="k", sha256="0" * 64, size=1)
PLAN = {
    "name": "zap", "trigger": "zap", "model_sha256": "0", "family": "sd1", "adapter_type": "lora", "rank": 4,
    "steps": 7, "images": [{"key": "a"}],
}  # fmt: skip

Write = Callable[[Session, Claim], Any]
WRITES: dict[str, Write] = {
    "beat": lambda session, claim: job_claims.renew_lease(session, claim, lease_seconds=60, progress={"step": 1}),
    "phase": lambda session, claim: job_claims.enter_phase(session, claim, Phase.TRAINING),
    "runtime": lambda session, claim: job_claims.write_runtime(session, claim, {"precision": "fp32"}),
    "notice": lambda session, claim: job_claims.add_notice(session, claim, "hello"),
    "metrics": lambda session, claim: job_claims.add_metrics(
        session, claim, [{"step": claim.attempt, "loss": 1.0, "learning_rate": 1.0, "seconds_per_step": 1.0}]
    ),
    "checkpoint": lambda session, claim: job_claims.add_checkpoint(
        session, claim, step=claim.attempt, loss=1.0, artifact=ARTIFACT, keep=2
    ),
    "sample": lambda session, claim: job_claims.add_sample(
        session, claim, step=claim.attempt, images=[], grid=ARTIFACT
    ),
}
FINAL_REPORTS: dict[str, Write] = {
    "succeed": lambda session, claim: job_claims.succeed(
        session, claim, result={}, artifacts={"adapter-kohya": ARTIFACT, "adapter-diffusers": ARTIFACT}
    ),
    "fail": lambda session, claim: job_claims.fail(session, claim, TerminationReason.NAN_LOSS, ""),
    "stop": job_claims.acknowledge_stop,
    "give back": lambda session, claim: job_claims.retry(session, claim, "the disk is full"),
    "less memory": lambda session, claim: job_claims.retry_with_runtime(
        session, claim, {"memory_reduced": True}, "less"
    ),
}
REQUESTS = {"cancel": jobs.cancel_job, "pause": jobs.pause_job, "resume": jobs.resume_job}


class JobMachine(RuleBasedStateMachine):
    """One job, two device slots, and every claim that was ever made on it."""

    sessions: ClassVar[sessionmaker[Session]]
    held = Bundle("held")

    @initialize()
    def submit(self) -> None:
        self.job_id, self.status, self.attempt, self.slots = new_id("job"), JobStatus.QUEUED, 0, iter(range(10_000))
        with self.sessions.begin() as session:
            session.add(
                Job(
                    id=self.job_id, tenant_id=DEFAULT_TENANT, model_id="m", dataset_id="ds_1",
                    status=JobStatus.QUEUED, spec={}, plan=PLAN, estimate={},
                )
            )  # fmt: skip
            session.flush()
            events.append_event(session, self.job_id, EventType.QUEUED, 0, {"reason": "accepted"})

    # --- what happens ---

    @rule(target=held)
    def claim(self) -> Claim:
        """By a slot of its own, due or not: the queue's order is another test's matter."""
        with self.sessions.begin() as session:
            session.execute(update(Job).where(Job.id == self.job_id).values(run_after=Job.created_at))
            others = update(Job).where(Job.id != self.job_id, Job.status == JobStatus.QUEUED)
            session.execute(others.values(status=JobStatus.CANCELED))
            job = job_claims.claim_next(session, slot=f"{self.job_id}/{next(self.slots)}", lease_seconds=60)
        assert (job is not None) == (self.status is JobStatus.QUEUED)
        if job is not None:
            self.status, self.attempt = JobStatus.RUNNING, self.attempt + 1
        return Claim(self.job_id, self.attempt)

    @rule(claim=held, name=st.sampled_from(sorted(WRITES)))
    def write(self, claim: Claim, name: str) -> None:
        with self.fenced(claim), self.sessions.begin() as session:
            WRITES[name](session, claim)

    @rule(claim=consumes(held), name=st.sampled_from(sorted(FINAL_REPORTS)))
    def end(self, claim: Claim, name: str) -> None:
        before = self.status
        with self.fenced(claim):
            with self.sessions.begin() as session:
                reached = FINAL_REPORTS[name](session, claim)
            self.status = JobStatus(reached)
            assert may_follow(before, self.status)
            if before is JobStatus.CANCELING:
                assert self.status is JobStatus.CANCELED, "a canceled job does not succeed"

    @rule(name=st.sampled_from(sorted(REQUESTS)))
    def request(self, name: str) -> None:
        before = self.status
        try:
            with self.sessions.begin() as session:
                self.status = JobStatus(REQUESTS[name](session, DEFAULT_TENANT, self.job_id).status)
        except WrongState:
            assert before in TERMINAL or (name, before) in self.refused()
        else:
            assert self.status is before or may_follow(before, self.status)

    @staticmethod
    def refused() -> set[tuple[str, JobStatus]]:
        resumable = {("resume", status) for status in JobStatus if status is not JobStatus.PAUSED}
        return {*resumable, ("pause", JobStatus.CANCELING)}

    @precondition(lambda self: self.status in HELD)
    @rule()
    def silence(self) -> None:
        """The lease runs out, and the steward takes the job back."""
        with self.sessions.begin() as session:
            session.execute(update(Job).where(Job.id == self.job_id).values(lease_until=Job.created_at))
            taken = job_claims.expire_leases(session)
        assert self.job_id in [job.id for job in taken], "beside what earlier examples left"
        expected = {
            JobStatus.RUNNING: {JobStatus.QUEUED, JobStatus.FAILED},
            JobStatus.PAUSING: {JobStatus.PAUSED},
            JobStatus.CANCELING: {JobStatus.CANCELED},
        }[self.status]
        self.status = JobStatus(self.row()["status"])
        assert self.status in expected

    @precondition(lambda self: self.status in TERMINAL)
    @rule(status=st.sampled_from(JobStatus))
    def force(self, status: JobStatus) -> None:
        """Past every function: the trigger stands behind the table."""
        if status is self.status:
            return
        with pytest.raises(DBAPIError, match="may not go"), self.sessions.begin() as session:
            session.execute(text("UPDATE jobs SET status = :s WHERE id = :i"), {"s": status, "i": self.job_id})

    # --- what must hold ---

    def fenced(self, claim: Claim) -> "Fenced":
        return Fenced(self, stands=claim.attempt == self.attempt and self.status in HELD)

    def row(self) -> dict[str, Any]:
        with self.sessions() as session:
            found = session.execute(text("SELECT * FROM jobs WHERE id = :i"), {"i": self.job_id}).mappings().one()
            return dict(found)

    def everything(self) -> Any:
        """All that readers of this job could see."""
        with self.sessions() as session:
            counts = [
                session.query(table).filter_by(job_id=self.job_id).count()
                for table in (JobMetric, JobCheckpoint, JobSample)
            ]
            history = [(event.seq, event.type, event.attempt) for event in events.list_events(session, self.job_id)]
            kinds = [jobs.get_artifact(session, self.job_id, kind) is not None for kind in ("adapter-kohya",)]
        return self.row(), counts, history, kinds

    @invariant()
    def the_row_says_what_happened(self) -> None:
        row = self.row()
        assert (JobStatus(row["status"]), row["attempt"]) == (self.status, self.attempt)
        assert (row["lease_until"] is not None) == (self.status in HELD)
        with self.sessions() as session:
            holds = [(hold.lane, hold.attempt) for hold in slots.list_held(session, self.job_id)]
        assert holds == ([(0, self.attempt)] if self.status in HELD else [])
        assert (row["finished_at"] is not None) == (self.status in TERMINAL)
        assert (row["result"] is not None) == (self.status is JobStatus.SUCCEEDED)
        assert (row["error"] is not None) == (self.status is JobStatus.FAILED)

    @invariant()
    def the_history_is_in_order(self) -> None:
        with self.sessions() as session:
            history = events.list_events(session, self.job_id)
            committed = jobs.get_artifact(session, self.job_id, "adapter-kohya") is not None
        assert [event.seq for event in history] == list(range(1, len(history) + 1))
        attempts = [event.attempt for event in history]
        assert attempts == sorted(attempts)
        finals = [index for index, event in enumerate(history) if event.type in FINAL_EVENTS]
        assert finals == ([len(history) - 1] if self.status in TERMINAL else [])
        assert committed == (self.status is JobStatus.SUCCEEDED)


class Fenced:
    """Within it a claim that stands may write, and one that was lost is refused and changes nothing."""

    def __init__(self, machine: JobMachine, *, stands: bool) -> None:
        self._machine, self._stands = machine, stands
        self._before = None if stands else machine.everything()

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if self._stands:
            return False
        assert kind is not None and issubclass(kind, LostLease), "a late worker was let in"
        assert self._machine.everything() == self._before
        return True


def test_a_job_through_anything(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        session.add(Model(id="m", status="ready", location="", info={}))
        session.add(Dataset(id="ds_1", tenant_id=DEFAULT_TENANT, status="ready"))
    machine = type("Machine", (JobMachine,), {"sessions": sessions})
    machine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, derandomize=True)
    machine.TestCase().runTest()


def test_the_database_knows_the_same_table(sessions: sessionmaker[Session]) -> None:
    """Every pair of states, straight past the functions: what the table forbids, the trigger refuses."""
    with sessions.begin() as session:
        session.add(Model(id="m", status="ready", location="", info={}))
        session.add(Dataset(id="ds_1", tenant_id=DEFAULT_TENANT, status="ready"))
    for current in JobStatus:
        for following in JobStatus:
            if current is not following:
                assert try_to_move(sessions, current, following) == may_follow(current, following), (current, following)


def try_to_move(sessions: sessionmaker[Session], current: JobStatus, following: JobStatus) -> bool:
    job_id = new_id("job")
    with sessions.begin() as session:
        session.add(
            Job(
                id=job_id, tenant_id=DEFAULT_TENANT, model_id="m", dataset_id="ds_1", status=current, spec={},
                plan=PLAN, estimate={},
            )
        )  # fmt: skip
    try:
        with sessions.begin() as session:
            session.execute(update(Job).where(Job.id == job_id).values(status=following))
    except DBAPIError:
        return False
    return True
