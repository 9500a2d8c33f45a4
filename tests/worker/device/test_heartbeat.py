"""One thread renews all leases of a worker, over a real PostgreSQL."""

import time

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from core.db.job_claims import Claim
from core.db.tables import Job
from core.domain.states import JobStatus
from tests.fixtures.job_rows import add_job, add_model_and_dataset
from tests.fixtures.servers import wait_for
from worker.device import heartbeat
from worker.device.heartbeat import Heartbeats, HeldClaim


@pytest.fixture
def heartbeats(sessions: sessionmaker[Session]) -> Heartbeats:
    with sessions.begin() as session:
        add_model_and_dataset(session)
        for job_id in ("job_1", "job_2"):
            add_job(session, job_id, status=JobStatus.RUNNING, attempt=1)
    return Heartbeats(sessions, beat_seconds=0.02, lease_seconds=60)


def has_lease(sessions: sessionmaker[Session], job_id: str) -> bool:
    with sessions() as session:
        return session.execute(select(Job.lease_until).where(Job.id == job_id)).scalar_one() is not None


def test_what_clients_request_and_a_lost_lease_reach_each_claim(
    sessions: sessionmaker[Session], heartbeats: Heartbeats
) -> None:
    first, lost = HeldClaim(Claim("job_1", 1)), HeldClaim(Claim("job_2", 7))
    with heartbeats.track(first), heartbeats.track(lost):
        wait_for(lambda: has_lease(sessions, "job_1"))
        with sessions.begin() as session:
            session.get_one(Job, "job_1").status = JobStatus.CANCELING
        wait_for(lambda: first.requested_status is JobStatus.CANCELING and lost.lease_lost)
    assert not first.lease_lost


def test_a_renewal_that_hangs_does_not_hold_up_the_next_claim(
    sessions: sessionmaker[Session], heartbeats: Heartbeats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "GRACE_SECONDS", 0.1)
    with sessions.begin() as blocking:
        blocking.execute(select(Job.id).where(Job.id == "job_1").with_for_update())
        with heartbeats.track(HeldClaim(Claim("job_1", 1))):
            time.sleep(0.2)  # the renewal waits for the row
        with heartbeats.track(HeldClaim(Claim("job_2", 1))):
            wait_for(lambda: has_lease(sessions, "job_2"))


def test_nothing_beats_once_no_claim_is_left(sessions: sessionmaker[Session], heartbeats: Heartbeats) -> None:
    with heartbeats.track(HeldClaim(Claim("job_1", 1))):
        wait_for(lambda: has_lease(sessions, "job_1"))
    with sessions.begin() as session:
        session.get_one(Job, "job_1").lease_until = None
    time.sleep(0.1)
    assert not has_lease(sessions, "job_1")
