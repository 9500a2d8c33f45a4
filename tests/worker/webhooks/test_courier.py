"""A courier over a real PostgreSQL and real receivers on loopback."""

import json
import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import func, update
from sqlalchemy.orm import Session, sessionmaker

from core.db import jobs, webhooks
from core.db.delivery_claims import expire_deliveries
from core.db.events import list_events
from core.db.tables import DEFAULT_TENANT, WebhookDelivery
from core.domain.receivers import AllowList
from core.domain.webhooks import MAX_TRIES, RETRY_DELAYS_SECONDS, DeliveryStatus, make_secret
from core.settings import Settings
from tests.fixtures.receiver import SECRET, Message, Receiver, Reply, serve_receiver, verify
from tests.fixtures.servers import wait_for
from tests.fixtures.webhook_jobs import insert_webhook_job, list_rows, make_due, run_job
from worker.deliveries import MAX_PER_HOST, Courier
from worker.outgoing import Outgoing

Sessions = sessionmaker[Session]
MakeCourier = Callable[..., Courier]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serve_receiver() as receiver:
        yield receiver


@pytest.fixture
def drain() -> threading.Event:
    return threading.Event()


@pytest.fixture
def make_courier(database_url: str, sessions: Sessions, tmp_path: Path, drain: threading.Event) -> MakeCourier:
    def make(*, allow: str = "127.0.0.0/8", timeout_seconds: float = 30, **changes: object) -> Courier:
        settings = Settings.model_validate(
            {"home": tmp_path, "database_url": database_url, "redis_url": "redis://", "webhook_allow": allow,
             "webhook_timeout_seconds": timeout_seconds, **changes}
        )  # fmt: skip
        outgoing = Outgoing(settings.webhook_allow, timeout_seconds=timeout_seconds)
        return Courier(settings, sessions, outgoing, drain, draw=lambda: 0.0)

    return make


@pytest.fixture
def courier(make_courier: MakeCourier) -> Courier:
    return make_courier()


def statuses(sessions: Sessions, job_id: str) -> list[str]:
    return [row.status for row in list_rows(sessions, job_id)]


def test_a_message_verifies_and_is_the_event(sessions: Sessions, courier: Courier, receiver: Receiver) -> None:
    job_id = insert_webhook_job(sessions, receiver.url)
    assert courier.deliver_due() == 1

    (message,) = receiver.messages
    (row,) = list_rows(sessions, job_id)
    assert message.verified
    assert message.id == row.event_id
    assert message.content.decode() == row.body
    assert message.body["type"] == "job.queued"
    assert message.headers["user-agent"].startswith("Atelier")
    assert (row.status, row.log[0]["status_code"], row.log[0]["error"]) == (DeliveryStatus.DELIVERED, 204, None)
    assert row.delivered_at is not None
    assert courier.deliver_due() == 0


def test_a_receiver_that_fails_three_times_in_ten_hears_every_event(
    sessions: Sessions, courier: Courier, receiver: Receiver
) -> None:
    job_ids = [insert_webhook_job(sessions, f"{receiver.url}/{number}") for number in range(6)]
    for job_id in job_ids:
        run_job(sessions, job_id, checkpoints=4)
    heard: Counter[str] = Counter()
    failures = []

    def fail_often(message: Message) -> Reply:
        """Drawn from what does not change from run to run."""
        heard[message.id] += 1
        draw = random.Random(f"{message.path} {message.body['data']['seq']} {heard[message.id]}")
        if draw.random() < 0.3:
            failures.append(message.id)
            return (500, b"not now")
        return (200, b"")

    receiver.reply = fail_often
    while courier.deliver_due():
        make_due(sessions)

    with sessions() as session:
        history = {job_id: list_events(session, job_id) for job_id in job_ids}
    assert {status for job_id in job_ids for status in statuses(sessions, job_id)} == {DeliveryStatus.DELIVERED}
    assert set(receiver.ids) == {event.id for events in history.values() for event in events}
    assert all(message.verified for message in receiver.messages)
    assert len({(message.id, message.content) for message in receiver.messages}) == len(set(receiver.ids)) == 48
    assert len(receiver.messages) == 48 + len(failures)
    assert len(failures) >= 8
    for job_id, events in history.items():
        sent = {m.body["data"]["seq"]: m.body["type"] for m in receiver.messages if m.body["data"]["job_id"] == job_id}
        assert [sent[seq] for seq in sorted(sent)] == [event.type for event in events]


def test_every_try_comes_after_its_delay_and_the_last_has_failed(
    sessions: Sessions, courier: Courier, receiver: Receiver
) -> None:
    receiver.reply = lambda _: (503, b"x" * 2000)
    job_id = insert_webhook_job(sessions, receiver.url)
    for tries in range(1, MAX_TRIES):
        before = clock(sessions)
        assert courier.deliver_due() == 1
        after = clock(sessions)
        (row,) = list_rows(sessions, job_id)
        delay = RETRY_DELAYS_SECONDS[tries]
        assert row.status == DeliveryStatus.PENDING
        assert before <= row.run_after.timestamp() - delay <= after
        assert courier.deliver_due() == 0
        make_due(sessions)
    courier.deliver_due()

    (row,) = list_rows(sessions, job_id)
    assert (row.status, len(row.log), set(receiver.ids)) == (DeliveryStatus.FAILED, MAX_TRIES, {row.event_id})
    assert {(entry["status_code"], entry["excerpt"]) for entry in row.log} == {(503, "x" * 1024)}
    make_due(sessions)
    assert courier.deliver_due() == 0


def clock(sessions: Sessions) -> float:
    with sessions() as session:
        return webhooks.read_clock(session).timestamp()


def test_the_delays_can_be_scaled_for_a_trial(
    sessions: Sessions, make_courier: MakeCourier, receiver: Receiver
) -> None:
    receiver.reply = lambda message: (500 if len(receiver.messages) == 1 else 200, b"")
    job_id = insert_webhook_job(sessions, receiver.url)
    courier = make_courier(webhook_delay_scale=1e-9)
    wait_for(lambda: courier.deliver_due() == 0 and statuses(sessions, job_id) == ["delivered"])


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_a_success(sessions: Sessions, courier: Courier, receiver: Receiver, status: int) -> None:
    receiver.reply = lambda _: (status, b"")
    job_id = insert_webhook_job(sessions, receiver.url)
    courier.deliver_due()
    assert statuses(sessions, job_id) == [DeliveryStatus.DELIVERED]


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 429, 500])
def test_nothing_else_is(sessions: Sessions, courier: Courier, receiver: Receiver, status: int) -> None:
    receiver.reply = lambda _: (status, b"", {"Location": receiver.url})
    job_id = insert_webhook_job(sessions, receiver.url)
    courier.deliver_due()
    assert statuses(sessions, job_id) == [DeliveryStatus.PENDING]
    assert len(receiver.messages) == 1


def test_a_410_is_the_last_that_a_receiver_hears_of_a_job(
    sessions: Sessions, courier: Courier, receiver: Receiver
) -> None:
    receiver.reply = lambda _: (410, b"")
    job_id = insert_webhook_job(sessions, receiver.url)
    courier.deliver_due()
    run_job(sessions, job_id)
    make_due(sessions)

    assert courier.deliver_due() == 0
    assert (len(receiver.messages), statuses(sessions, job_id)) == (1, [DeliveryStatus.FAILED])


def test_a_receiver_that_is_not_admitted_gets_nothing_and_its_log_says_why(
    sessions: Sessions, make_courier: MakeCourier, receiver: Receiver
) -> None:
    job_id = insert_webhook_job(sessions, receiver.url)
    make_courier(allow="10.0.0.0/8").deliver_due()

    (row,) = list_rows(sessions, job_id)
    assert (row.status, row.log[0]["status_code"]) == (DeliveryStatus.PENDING, None)
    assert row.log[0]["error"] == "refused: 127.0.0.1 is a loopback address"
    assert receiver.messages == []


def test_a_slow_receiver_holds_up_no_other(sessions: Sessions, courier: Courier, receiver: Receiver) -> None:
    go_on = threading.Event()

    def wait(_: Message) -> Reply:
        go_on.wait(60)
        return (200, b"")

    with serve_receiver("127.0.0.2") as slow:
        slow.reply = wait
        for _ in range(3 * MAX_PER_HOST):
            insert_webhook_job(sessions, slow.url)
        quick = [insert_webhook_job(sessions, receiver.url) for _ in range(40)]
        thread = threading.Thread(target=courier.deliver_due)
        thread.start()
        try:
            wait_for(lambda: len(receiver.messages) == len(quick))
            late = insert_webhook_job(sessions, receiver.url)
            wait_for(lambda: statuses(sessions, late) == ["delivered"])
            assert len(slow.messages) == MAX_PER_HOST, "and it is not flooded"
        finally:
            go_on.set()
            thread.join(60)
        assert len(slow.messages) == 3 * MAX_PER_HOST


def test_what_a_lost_lease_sent_is_sent_again_under_the_same_id_and_writes_nothing(
    sessions: Sessions, courier: Courier, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """The first courier is so late that its lease was taken away in the middle."""
    job_id = insert_webhook_job(sessions, receiver.url)

    def lose_lease_then_fail(_: Message) -> Reply:
        if len(receiver.messages) > 1:
            return (200, b"")
        with sessions.begin() as session:
            session.execute(update(WebhookDelivery).values(lease_until=func.to_timestamp(0)))
            expire_deliveries(session)
        return (410, b"too late")

    receiver.reply = lose_lease_then_fail
    with caplog.at_level(logging.INFO):
        courier.deliver_due()

    (row,) = list_rows(sessions, job_id)
    assert receiver.ids == [row.event_id] * 2
    assert (row.status, row.attempt) == (DeliveryStatus.DELIVERED, 2)
    assert [(entry["status_code"], entry["error"] is None) for entry in row.log] == [(None, False), (200, True)]
    assert "not ours any more" in caplog.text


def test_a_job_that_is_deleted_during_a_delivery(sessions: Sessions, courier: Courier, receiver: Receiver) -> None:
    job_id = insert_webhook_job(sessions, receiver.url, events=["job.canceled"])
    with sessions.begin() as session:
        jobs.cancel_job(session, DEFAULT_TENANT, job_id)

    def delete(_: Message) -> Reply:
        with sessions.begin() as session:
            jobs.delete_job(session, DEFAULT_TENANT, job_id)
        return (500, b"")

    receiver.reply = delete
    assert courier.deliver_due() == 1
    assert list_rows(sessions, job_id) == []


def test_a_drain_begins_nothing_more(
    sessions: Sessions, courier: Courier, receiver: Receiver, drain: threading.Event
) -> None:
    for _ in range(3 * MAX_PER_HOST):
        insert_webhook_job(sessions, receiver.url)

    def ask_to_end(_: Message) -> Reply:
        drain.set()
        return (200, b"")

    receiver.reply = ask_to_end
    assert courier.deliver_due() == MAX_PER_HOST, "what flew has landed"
    assert courier.deliver_due() == 0


def test_a_fault_in_sending_takes_its_place_in_the_retry_table(
    sessions: Sessions, courier: Courier, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outgoing, "_find_addresses", lambda *_: 1 / 0)
    job_id = insert_webhook_job(sessions, receiver.url)
    courier.deliver_due()
    assert list_rows(sessions, job_id)[0].log[0]["error"] == "an error of the service; its log has more"


# --- signatures ----------------------------------------------------------------------------------------


def test_while_a_secret_is_rotated_the_old_and_the_new_verify(
    sessions: Sessions, courier: Courier, receiver: Receiver
) -> None:
    with sessions.begin() as session:
        old = webhooks.read_secret(session, DEFAULT_TENANT).secret
        new = webhooks.rotate_secret(session, DEFAULT_TENANT).secret
    insert_webhook_job(sessions, receiver.url, secret=None)
    courier.deliver_due()

    (message,) = receiver.messages
    assert verify(old, message.content, message.headers)
    assert verify(new, message.content, message.headers)
    assert not verify(make_secret(), message.content, message.headers)


def test_the_secret_of_a_job_signs_alone(sessions: Sessions, courier: Courier, receiver: Receiver) -> None:
    insert_webhook_job(sessions, receiver.url)
    courier.deliver_due()
    assert receiver.messages[0].verified
    assert receiver.messages[0].headers["webhook-signature"].count("v1,") == 1


def test_forged_messages_are_refused(sessions: Sessions, courier: Courier, receiver: Receiver) -> None:
    job_id = insert_webhook_job(sessions, receiver.url)
    run_job(sessions, job_id)
    courier.deliver_due()
    first, second = receiver.messages[:2]
    forgeries = list(forge(first, second))
    assert len(forgeries) >= 30
    assert [f for f in forgeries if verify_quietly(*f)] == []
    assert verify(SECRET, first.content, first.headers)


def forge(message: Message, other: Message) -> Iterator[tuple[bytes, Mapping[str, str]]]:
    """What somebody may try who heard two messages and has no secret."""
    content, headers = message.content, dict(message.headers)
    signature, moment = headers["webhook-signature"], int(headers["webhook-timestamp"])
    for position in (part * len(content) // 12 for part in range(12)):
        yield content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :], headers
    yield from ((changed, headers) for changed in (b"", b"{}", content + b" ", b" " + content, other.content))
    for id_ in ("", "evt_other", other.id, message.id + " ", message.id.upper()):
        yield content, {**headers, "webhook-id": id_}
    for timestamp in (
        "",
        "x",
        "0",
        str(moment - 1),
        str(moment + 1),
        str(moment - 600),
        str(moment + 600),
        f"{moment}0",
    ):
        yield content, {**headers, "webhook-timestamp": timestamp}
    for forged in (
        "", "v1,", "v1", signature.replace("v1,", "v2,"), signature.removeprefix("v1,"), signature[:-4] + "AAA=",
        other.headers["webhook-signature"], "v1,AAAA " * 3, signature.lower(),
    ):  # fmt: skip
        yield content, {**headers, "webhook-signature": forged}
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        yield content, {key: value for key, value in headers.items() if key != name}


def verify_quietly(content: bytes, headers: Mapping[str, str]) -> bool:
    """The library raises other errors too for what is malformed."""
    try:
        return verify(SECRET, content, headers)
    except ValueError:
        return False


def test_the_log_of_the_worker_has_no_secret_and_no_address(
    sessions: Sessions, courier: Courier, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.reply = lambda _: (500, b"")
    insert_webhook_job(sessions, f"{receiver.url}?token=hushhush")
    with caplog.at_level(logging.DEBUG, logger="atelier"), caplog.at_level(logging.INFO):
        courier.deliver_due()
    assert "try 1: 500" in caplog.text
    assert "hushhush" not in caplog.text
    assert SECRET not in caplog.text
    assert json.dumps([SECRET])[2:-2] not in caplog.text


def test_an_allow_list_that_is_none_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nonsense:port is not a host"):
        Settings.model_validate({"database_url": "x", "redis_url": "x", "webhook_allow": "10.0.0.0/8, nonsense:port"})
    parsed = Settings.model_validate({"database_url": "x", "redis_url": "x", "webhook_allow": "10.0.0.0/8"})
    assert parsed.webhook_allow == AllowList.parse("10.0.0.0/8")
    assert hash(parsed)
