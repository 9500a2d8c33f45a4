"""What a job has to say, over a real PostgreSQL; a broker that is away costs nothing but the news."""

from collections.abc import Mapping
from typing import Any

import pytest
import redis
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session, sessionmaker

from core.db import job_claims
from core.db.job_claims import Claim
from core.db.tables import Job
from core.domain.states import JobStatus
from core.queue import progress_channel
from tests.fixtures.job_rows import add_job, add_model_and_dataset
from worker.device.outbox import Outbox
from worker.jobs.reports import describe_progress

CLAIM = Claim("job_1", 1)


@pytest.fixture
def held(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        add_model_and_dataset(session)
        add_job(session, "job_1", status=JobStatus.RUNNING, attempt=1)


class CountingBroker(redis.Redis):
    """Refuses every connection, and counts how often one was asked for."""

    num_asked = 0

    def publish(self, channel: Any, message: Any, **options: Any) -> Any:
        self.num_asked += 1
        return super().publish(channel, message, **options)


@pytest.fixture
def away() -> CountingBroker:
    return CountingBroker(host="127.0.0.1", port=1)


def progress(step: int) -> Mapping[str, Any]:
    return {"lease_seconds": 60, "progress": {"step": step}}


@pytest.mark.usefixtures("held")
def test_a_flush_writes_in_order_and_tells_once(sessions: sessionmaker[Session], redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as broker, broker.pubsub() as ear:
        ear.subscribe(progress_channel("job_1"))
        ear.get_message(timeout=10)
        outbox = Outbox(sessions, broker, CLAIM)
        for step in (1, 2, 3):
            outbox.add(job_claims.renew_lease, **progress(step))
        assert outbox.flush()
        assert ear.get_message(timeout=10) is not None
        broker.publish(progress_channel("job_1"), b"the last")
        following = ear.get_message(timeout=10)
    assert following is not None and following["data"] == b"the last"
    with sessions() as session:
        assert session.get_one(Job, "job_1").progress == {"step": 3}


@pytest.mark.usefixtures("held")
def test_a_broker_that_is_away_is_not_asked_at_every_write(
    sessions: sessionmaker[Session], away: CountingBroker
) -> None:
    outbox = Outbox(sessions, away, CLAIM)
    for step in range(1, 6):
        outbox.add(job_claims.renew_lease, **progress(step))
        assert outbox.flush()
    assert away.num_asked == 1


@pytest.mark.usefixtures("held")
def test_a_write_that_can_never_be_made_is_no_outage(sessions: sessionmaker[Session], away: CountingBroker) -> None:
    """PostgreSQL's JSON knows no NaN: to wait for it to learn would be in vain."""
    outbox = Outbox(sessions, away, CLAIM)
    outbox.add(job_claims.renew_lease, lease_seconds=60, progress={"loss": float("nan")})
    with pytest.raises(DataError):
        outbox.flush()
    outbox.add(job_claims.retry, "the worker failed")
    assert outbox.flush(), "nothing stands in its way any more"
    with sessions() as session:
        assert session.get_one(Job, "job_1").status == JobStatus.QUEUED


def test_no_time_is_left_once_no_step_is() -> None:
    """What is drawn and scored after the last step is not counted by steps: nothing is said of its time."""
    progress = {"num_steps": 10, "loss": 0.5, "seconds_per_step": 0.2, "unit": None}
    assert describe_progress(step=4, **progress)["eta_seconds"] == 1.2
    assert describe_progress(step=10, **progress)["eta_seconds"] is None
