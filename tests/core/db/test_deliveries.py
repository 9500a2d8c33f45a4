"""Deliveries on PostgreSQL: made with their event, claimed under a lease, written under a fence."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from core.db import delivery_claims, jobs, webhooks
from core.db.delivery_claims import MAX_LOGGED, DeliveryClaim, Try
from core.db.events import append_event, list_events
from core.db.tables import DEFAULT_TENANT, Webhook, WebhookDelivery, WebhookSecret
from core.domain.events import STATUS_EVENTS, EventType
from core.domain.webhooks import MAX_TRIES, DeliveryStatus
from tests.fixtures.receiver import SECRET
from tests.fixtures.webhook_jobs import insert_webhook_job, list_rows, make_due, run_job

Sessions = sessionmaker[Session]
URL = "https://hooks.example.com/a"


def claim_all(sessions: Sessions, *, limit: int = 100, per_host: int = 100, lease: float = 60) -> list[DeliveryClaim]:
    with sessions.begin() as session:
        return delivery_claims.claim_deliveries(session, lease_seconds=lease, limit=limit, per_host=per_host)


def claim_one(sessions: Sessions, lease: float = 60) -> DeliveryClaim:
    (claim,) = claim_all(sessions, limit=1, lease=lease)
    return claim


def expire(sessions: Sessions) -> list[str]:
    with sessions.begin() as session:
        return [row.event_id for row in delivery_claims.expire_deliveries(session)]


def tried(status_code: int | None = 500) -> Try:
    return Try(datetime.now(UTC), 0.25, status_code=status_code, excerpt="so it began")


def read(sessions: Sessions, event_id: str) -> WebhookDelivery:
    with sessions() as session:
        return session.get_one(WebhookDelivery, event_id)


# --- with the event ------------------------------------------------------------------------------------


def test_every_event_of_a_job_is_left_for_its_receiver_in_its_order(sessions: Sessions) -> None:
    job_id = insert_webhook_job(sessions, URL)
    run_job(sessions, job_id, checkpoints=3)

    rows = list_rows(sessions, job_id)
    with sessions() as session:
        events = list_events(session, job_id)
    assert [(row.event_id, row.seq, row.type) for row in rows] == [
        (event.id, event.seq, event.type) for event in events
    ]
    assert [row.seq for row in rows] == list(range(1, 8))


def test_the_body_of_an_event(sessions: Sessions) -> None:
    job_id = insert_webhook_job(sessions, URL)
    run_job(sessions, job_id)
    rows = list_rows(sessions, job_id)
    with sessions() as session:
        events = list_events(session, job_id)
    bodies = [json.loads(row.body) for row in rows]

    assert [body["type"] for body in bodies] == ["job.queued", "job.running", "job.phase", "job.succeeded"]
    assert [body["data"]["status"] for body in bodies] == ["queued", "running", "running", "succeeded"]
    assert [body["data"]["seq"] for body in bodies] == [1, 2, 3, 4]
    assert [body["data"]["attempt"] for body in bodies] == [0, 1, 1, 1]
    assert [body["data"]["event"] for body in bodies[:3]] == [event.data for event in events[:3]]
    assert all(
        datetime.fromisoformat(body["timestamp"]) == e.created_at for body, e in zip(bodies, events, strict=True)
    )
    assert {body["data"]["job_id"] for body in bodies} == {job_id}
    assert [body["data"]["event_id"] for body in bodies] == [event.id for event in events]
    assert ["job" in body["data"] for body in bodies] == [False, False, False, True]


def test_the_end_brings_the_job_without_what_is_long_or_inside(sessions: Sessions) -> None:
    job_id = insert_webhook_job(sessions, URL)
    run_job(sessions, job_id)
    text = list_rows(sessions, job_id)[-1].body
    data = json.loads(text)["data"]

    job = data["job"]
    assert (job["id"], job["status"], job["model"], job["metadata"]) == (job_id, "succeeded", "m", {"run": "7"})
    assert job["result"]["adapter"]["kohya"]["url"] == f"/jobs/{job_id}/adapter?format=kohya"
    assert job["result"]["adapter_id"].startswith("ad_")
    assert data["event"] == {**job["result"], "verdicts": {"kohya": {"a1111": "partial"}}}
    assert job["finished_at"] is not None
    assert "plan" not in job
    assert not any(word in text for word in ("secret-key", "proofs", "dropped", SECRET, "tenant"))


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (None, ["job.queued", "job.running", "job.succeeded"]),
        (["job.succeeded", "job.failed"], ["job.succeeded"]),
        (["job.checkpoint"], ["job.checkpoint", "job.checkpoint"]),
        (["job.canceled"], []),
    ],
)
def test_the_filter(sessions: Sessions, asked: list[str] | None, sent: list[str]) -> None:
    job_id = insert_webhook_job(sessions, URL, **({"events": asked} if asked else {"events": STATUS_EVENTS}))
    run_job(sessions, job_id, checkpoints=2)

    assert [row.type for row in list_rows(sessions, job_id)] == sent


def test_an_event_that_is_taken_back_tells_nothing(sessions: Sessions) -> None:
    job_id = insert_webhook_job(sessions, URL)
    with sessions() as session:
        append_event(session, job_id, EventType.NOTICE, 0, {"message": "never"})
        session.rollback()

    assert [row.type for row in list_rows(sessions, job_id)] == ["job.queued"]


def test_the_deliveries_go_with_their_job(sessions: Sessions) -> None:
    kept, gone = insert_webhook_job(sessions, URL), insert_webhook_job(sessions, URL)
    with sessions.begin() as session:
        jobs.cancel_job(session, DEFAULT_TENANT, gone)
    held = next(claim for claim in claim_all(sessions) if claim.job_id == gone)
    with sessions.begin() as session:
        jobs.delete_job(session, DEFAULT_TENANT, gone)

    with sessions.begin() as session:
        assert not delivery_claims.record_delivered(session, held, tried(200))
        assert session.execute(select(Webhook.job_id)).scalars().all() == [kept]
        assert set(session.execute(select(WebhookDelivery.job_id)).scalars()) == {kept}


# --- the claim -----------------------------------------------------------------------------------------


def test_what_has_been_due_longest_goes_first_and_nothing_that_is_not_due(sessions: Sessions) -> None:
    ids = [insert_webhook_job(sessions, URL) for _ in range(3)]
    later = insert_webhook_job(sessions, URL)
    with sessions.begin() as session:
        for job_id, seconds in ((ids[1], -300), (later, 300)):
            moment = func.clock_timestamp() + timedelta(seconds=seconds)
            session.execute(update(WebhookDelivery).where(WebhookDelivery.job_id == job_id).values(run_after=moment))
        assert delivery_claims.count_due_deliveries(session) == 3

    assert [claim.job_id for claim in claim_all(sessions)] == [ids[1], ids[0], ids[2]]
    assert claim_all(sessions) == []


def test_two_workers_at_once_get_different_ones(sessions: Sessions) -> None:
    for _ in range(6):
        insert_webhook_job(sessions, URL)
    with sessions.begin() as first, sessions.begin() as second:
        mine = delivery_claims.claim_deliveries(first, lease_seconds=60, limit=4, per_host=100)
        theirs = delivery_claims.claim_deliveries(second, lease_seconds=60, limit=100, per_host=100)

    assert (len(mine), len(theirs)) == (4, 2)
    assert len({claim.event_id for claim in (*mine, *theirs)}) == 6


def test_a_host_has_places_of_its_own(sessions: Sessions) -> None:
    for _ in range(5):
        insert_webhook_job(sessions, "http://slow.example/")
    quick = insert_webhook_job(sessions, "http://quick.example/")

    first = claim_all(sessions, per_host=2)
    assert sorted(claim.url for claim in first) == ["http://quick.example/", *["http://slow.example/"] * 2]
    assert claim_all(sessions, per_host=2) == [], "both of its places are taken"
    landed = next(claim for claim in first if claim.job_id != quick)
    with sessions.begin() as session:
        assert delivery_claims.record_delivered(session, landed, tried(200))
    assert [claim.url for claim in claim_all(sessions, per_host=2)] == ["http://slow.example/"]


def test_a_claim_shows_no_secret(sessions: Sessions) -> None:
    insert_webhook_job(sessions, URL)
    claim = claim_one(sessions)

    assert claim.secrets == (SECRET,)
    assert SECRET not in repr(claim)


# --- the fence -----------------------------------------------------------------------------------------

Write = Callable[[Session, DeliveryClaim], bool]
WRITES: dict[str, Write] = {
    "delivered": lambda session, claim: delivery_claims.record_delivered(session, claim, tried(200)),
    "failed": lambda session, claim: delivery_claims.record_failed(session, claim, tried(), delay_seconds=None),
    "again": lambda session, claim: delivery_claims.record_failed(session, claim, tried(), delay_seconds=5),
    "gone": lambda session, claim: delivery_claims.record_gone(session, claim, tried(410)),
}


def expired(sessions: Sessions, _: DeliveryClaim) -> None:
    expire(sessions)


def claimed_again(sessions: Sessions, _: DeliveryClaim) -> None:
    expire(sessions)
    claim_one(sessions)


def delivered_by_another(sessions: Sessions, claim: DeliveryClaim) -> None:
    claimed_again(sessions, claim)
    with sessions.begin() as session:
        row = session.get_one(WebhookDelivery, claim.event_id)
        row.status, row.lease_until = DeliveryStatus.DELIVERED, None


def asked_for_again(sessions: Sessions, claim: DeliveryClaim) -> None:
    with sessions.begin() as session:
        webhooks.redeliver(session, claim.job_id, claim.event_id)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("lose", [expired, claimed_again, delivered_by_another, asked_for_again])
def test_a_lost_lease_writes_nothing(
    sessions: Sessions, write: str, lose: Callable[[Sessions, DeliveryClaim], None]
) -> None:
    insert_webhook_job(sessions, URL)
    claim = claim_one(sessions, lease=-1)
    lose(sessions, claim)
    before = snapshot(sessions, claim)

    with sessions.begin() as session:
        assert WRITES[write](session, claim) is False
    assert snapshot(sessions, claim) == before


def snapshot(sessions: Sessions, claim: DeliveryClaim) -> list[dict[str, object]]:
    with sessions() as session:
        rows = (session.get_one(WebhookDelivery, claim.event_id), session.get_one(Webhook, claim.job_id))
        return [{column.name: getattr(row, column.name) for column in row.__table__.columns} for row in rows]


@pytest.mark.parametrize("write", WRITES)
def test_who_holds_it_writes_once(sessions: Sessions, write: str) -> None:
    insert_webhook_job(sessions, URL)
    claim = claim_one(sessions)
    with sessions.begin() as session:
        assert WRITES[write](session, claim) is True
    with sessions.begin() as session:
        assert WRITES[write](session, claim) is False

    assert [entry["excerpt"] for entry in read(sessions, claim.event_id).log] == ["so it began"]


# --- what became of it ---------------------------------------------------------------------------------


def test_a_failure_comes_back_after_its_delay(sessions: Sessions) -> None:
    insert_webhook_job(sessions, URL)
    claim = claim_one(sessions)
    with sessions.begin() as session:
        now = webhooks.read_clock(session)
        delivery_claims.record_failed(session, claim, tried(), delay_seconds=300)

    row = read(sessions, claim.event_id)
    assert row.status == DeliveryStatus.PENDING
    assert timedelta(seconds=299) < row.run_after - now < timedelta(seconds=330)
    assert claim_all(sessions) == []
    make_due(sessions)
    again = claim_one(sessions)
    assert (again.event_id, again.attempt, again.tries, again.body) == (claim.event_id, 2, 2, claim.body)


def test_a_410_ends_all_of_that_job_and_nothing_of_others(sessions: Sessions) -> None:
    job_id, other = insert_webhook_job(sessions, URL), insert_webhook_job(sessions, URL)
    run_job(sessions, job_id)
    claim = next(claim for claim in claim_all(sessions, limit=3) if claim.job_id == job_id)
    with sessions.begin() as session:
        assert delivery_claims.record_gone(session, claim, tried(410))
    with sessions.begin() as session:
        append_event(session, job_id, EventType.NOTICE, 1, {"message": "nobody wants to hear this"})

    rows = list_rows(sessions, job_id)
    assert [row.status for row in rows] == ["failed", "canceled", "canceled", "canceled"]
    assert [row.status for row in list_rows(sessions, other)] == ["pending"]
    assert all(row.lease_until is None for row in rows)


def test_what_a_dead_worker_held_is_due_again_and_says_so(sessions: Sessions) -> None:
    insert_webhook_job(sessions, URL)
    claim = claim_one(sessions, lease=-1)
    assert claim_all(sessions) == []

    assert expire(sessions) == [claim.event_id]
    assert expire(sessions) == []
    again = claim_one(sessions)
    assert (again.event_id, again.attempt) == (claim.event_id, 2)
    assert "worker stopped" in read(sessions, claim.event_id).log[0]["error"]


def test_one_that_is_still_on_its_way_is_not_taken_back(sessions: Sessions) -> None:
    insert_webhook_job(sessions, URL)
    claim_one(sessions, lease=60)

    assert expire(sessions) == []


def test_one_whose_workers_all_died_has_failed_at_last(sessions: Sessions) -> None:
    insert_webhook_job(sessions, URL)
    for tries in range(1, MAX_TRIES + 1):
        claim = claim_one(sessions, lease=-1)
        assert claim.tries == tries
        expire(sessions)

    assert read(sessions, claim.event_id).status == DeliveryStatus.FAILED
    assert claim_all(sessions) == []


@pytest.mark.parametrize("status", DeliveryStatus)
def test_a_redelivery_begins_anew_whatever_became_of_it(sessions: Sessions, status: DeliveryStatus) -> None:
    job_id = insert_webhook_job(sessions, URL)
    claim = claim_one(sessions)
    with sessions.begin() as session:
        delivery_claims.record_failed(session, claim, tried(), delay_seconds=300)
        session.flush()
        session.execute(update(WebhookDelivery).values(status=status, tries=MAX_TRIES))
    with sessions.begin() as session:
        webhooks.redeliver(session, job_id, claim.event_id)

    again = claim_one(sessions)
    assert (again.event_id, again.attempt, again.tries) == (claim.event_id, 2, 1)


def test_the_log_keeps_the_latest(sessions: Sessions) -> None:
    job_id = insert_webhook_job(sessions, URL)
    for number in range(MAX_LOGGED + 3):
        claim = claim_one(sessions)
        with sessions.begin() as session:
            delivery_claims.record_failed(session, claim, tried(number), delay_seconds=None)
        with sessions.begin() as session:
            webhooks.redeliver(session, job_id, claim.event_id)

    logged = [entry["status_code"] for entry in read(sessions, claim.event_id).log]
    assert logged == list(range(3, MAX_LOGGED + 3))


# --- secrets -------------------------------------------------------------------------------------------


def test_without_a_secret_of_its_own_the_tenants_signs_and_two_do_for_a_day(sessions: Sessions) -> None:
    insert_webhook_job(sessions, URL, secret=None)
    with sessions.begin() as session:
        first = webhooks.read_secret(session, DEFAULT_TENANT)
        assert webhooks.read_secret(session, DEFAULT_TENANT) == first
        second = webhooks.rotate_secret(session, DEFAULT_TENANT)
    assert (second.previous, first.previous) == (first.secret, None)
    assert first.secret not in repr(second)

    assert claim_one(sessions, lease=-1).secrets == (second.secret, first.secret)
    with sessions.begin() as session:
        session.execute(update(WebhookSecret).values(previous_until=func.clock_timestamp()))
    expire(sessions)
    assert claim_one(sessions).secrets == (second.secret,)
