"""The places of queued jobs, as workers will take them."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session, sessionmaker

from core.db import job_claims
from core.db.session import read_clock
from core.db.tables import Dataset, Job, Model, Tenant
from core.db.waiting import find_places

Sessions = sessionmaker[Session]
START = datetime(2026, 1, 1, tzinfo=UTC)


def add_jobs(sessions: Sessions, *jobs: tuple[str, int, float]) -> None:
    """Each with its name, its priority, and the seconds for which it is put off; posted one after the other."""
    with sessions.begin() as session:
        session.add(Model(id="m", status="ready", location="", info={}))
        session.add(Tenant(id="ten", name="ten"))
        session.flush()
        session.add(Dataset(id="ds", tenant_id="ten", status="ready"))
        session.flush()
        rows = [
            {
                "id": name, "tenant_id": "ten", "model_id": "m", "dataset_id": "ds", "status": "queued", "spec": {},
                "plan": {"images": []}, "estimate": {"seconds": 10.0}, "priority": priority,
                "created_at": START + timedelta(seconds=number),
                "run_after": read_clock(session) + timedelta(seconds=wait),
            }
            for number, (name, priority, wait) in enumerate(jobs)
        ]  # fmt: skip
        session.execute(sa.insert(Job), rows)


def test_a_deferred_job_is_behind_those_that_can_run_now(sessions: Sessions) -> None:
    add_jobs(sessions, ("late", 9, 300), ("sooner", 0, 100), ("plain", 0, -60), ("first", 1, -5), ("after", 0, 0))
    with sessions() as session:
        places = find_places(session, "ten")
    assert list(places) == ["first", "plain", "after", "sooner", "late"]
    assert [place.number for place in places.values()] == [1, 2, 3, 4, 5]
    starts = [place.starts_in_seconds for place in places.values()]
    assert starts[:3] == [0.0, 10.0, 20.0]
    assert starts[3:] == [pytest.approx(100, abs=20), pytest.approx(300, abs=20)]


def test_the_places_are_the_order_of_the_claims(sessions: Sessions) -> None:
    add_jobs(sessions, ("late", 9, 300), ("plain", 0, -60), ("first", 1, -5), ("after", 0, -1))
    with sessions.begin() as session:
        places = list(find_places(session, "ten"))
        taken = [job_claims.claim_of(session, "ten", slot=f"{n}", lease_seconds=60) for n in range(4)]
    assert [job.id for job in taken if job is not None] == places[:3]
