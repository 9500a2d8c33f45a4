"""Who holds which lane of a device slot."""

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from core.db import job_claims, slots
from core.db.job_claims import Claim
from core.db.tables import Job
from core.domain.states import JobStatus
from tests.fixtures.job_rows import add_job, add_model_and_dataset

SLOT = "host/cpu/0"


@pytest.fixture
def held(sessions: sessionmaker[Session]) -> Claim:
    with sessions.begin() as session:
        add_model_and_dataset(session)
        add_job(session, "job_1", status=JobStatus.QUEUED)
    with sessions.begin() as session:
        job = job_claims.claim_next(session, slot=SLOT, lease_seconds=60)
        assert job is not None
        return Claim(job.id, job.attempt)


def test_a_claim_holds_one_lane_until_it_ends(sessions: sessionmaker[Session], held: Claim) -> None:
    with sessions.begin() as session:
        rows = [(row.slot, row.lane, row.job_id, row.attempt) for row in slots.list_held(session, held.job_id)]
        assert rows == [(SLOT, 0, held.job_id, 1)]
        assert not slots.is_free(session, SLOT) and slots.is_free(session, SLOT, lane=1)
        assert slots.is_free(session, "host/cpu/1")
    with sessions.begin() as session:
        job_claims.defer(session, held, "later")
        assert slots.is_free(session, SLOT)


def test_two_holders_of_one_lane_are_refused_by_the_database(sessions: sessionmaker[Session], held: Claim) -> None:
    with sessions.begin() as session:
        add_job(session, "job_2", status=JobStatus.QUEUED)
        slots.take(session, SLOT, "job_2", 1, lane=1)
    with pytest.raises(IntegrityError), sessions.begin() as session:
        slots.take(session, SLOT, "job_2", 1)


def test_all_leases_of_a_worker_are_renewed_at_once(sessions: sessionmaker[Session], held: Claim) -> None:
    with sessions.begin() as session:
        add_job(session, "job_2", status=JobStatus.QUEUED)
        second = job_claims.claim_next(session, slot="host/cpu/1", lease_seconds=60)
        assert second is not None
        other, lost = Claim(second.id, second.attempt), Claim(second.id, second.attempt + 1)
    with sessions.begin() as session:
        session.get_one(Job, other.job_id).status = JobStatus.CANCELING
    with sessions.begin() as session:
        statuses = job_claims.renew_leases(session, [held, other, lost], lease_seconds=600)
    assert statuses == {held: JobStatus.RUNNING, other: JobStatus.CANCELING}
    with sessions() as session:
        leases = [session.get_one(Job, claim.job_id).lease_until for claim in (held, other)]
    assert all(lease is not None for lease in leases)
