"""Sends due deliveries, many at once: claim, sign, send outside of any transaction, record under the fence.

A delivery is sent at least once. If a worker died before recording it, it is sent again, under the same
``webhook-id``, by which receivers recognize it.
"""

import asyncio
import functools
import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http import HTTPStatus

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker
from standardwebhooks import Webhook

from core.db.delivery_claims import (
    DeliveryClaim,
    Try,
    claim_deliveries,
    record_delivered,
    record_failed,
    record_gone,
)
from core.db.session import make_sessions, open_engine
from core.domain.webhooks import find_delay
from core.settings import Settings
from worker import drain
from worker.outgoing import READ_SECONDS, NotSent, Outgoing

MAX_IN_FLIGHT = 16
"""Deliveries that one worker sends at the same time."""
MAX_PER_HOST = 4
"""Of these, to one receiver."""
POLL_SECONDS = 0.5
"""While slow receivers occupy some places, the others are filled again."""
USER_AGENT = "Atelier-Webhooks"
RECORD_SECONDS = 2.0
"""The time to record a last attempt when the worker ends."""

log = logging.getLogger("atelier.webhooks")


class Courier:
    """One worker's access to the due deliveries."""

    def __init__(
        self,
        settings: Settings,
        sessions: sessionmaker[Session],
        outgoing: Outgoing,
        drain: threading.Event,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._settings, self._sessions, self._outgoing, self._drain = settings, sessions, outgoing, drain
        self._draw = draw
        # An attempt ends within its own time, including the response's first lines, so the lease need not be renewed.
        self._lease_seconds = 2 * (settings.webhook_timeout_seconds + READ_SECONDS)

    def deliver_due(self) -> int:
        """Sends until nothing is due, or this worker is shutting down; returns the number of attempts."""
        return asyncio.run(self._deliver_due())

    async def _deliver_due(self) -> int:
        in_flight: set[asyncio.Task[None]] = set()
        count = 0
        while True:
            claims = await asyncio.to_thread(self._claim, MAX_IN_FLIGHT - len(in_flight))
            in_flight |= {asyncio.create_task(self._deliver(claim)) for claim in claims}
            count += len(claims)
            if not in_flight:
                return count
            _, in_flight = await asyncio.wait(in_flight, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)

    def _claim(self, limit: int) -> list[DeliveryClaim]:
        """None if the database is away: running deliveries may finish first."""
        if self._drain.is_set() or limit == 0:
            return []
        try:
            with self._sessions.begin() as session:
                return claim_deliveries(session, lease_seconds=self._lease_seconds, limit=limit, per_host=MAX_PER_HOST)
        except SQLAlchemyError as error:
            log.warning("deliveries could not be claimed: %s", error)
            return []

    async def _deliver(self, claim: DeliveryClaim) -> None:
        made = await self._send(claim)
        try:
            held = await asyncio.to_thread(self._record, claim, made)
        except SQLAlchemyError as error:
            log.warning("delivery %s could not be recorded, and will be sent again: %s", claim.event_id, error)
            return
        outcome = made.status_code or made.error
        log.info(
            "delivery %s, try %d: %s%s", claim.event_id, claim.tries, outcome, "" if held else "; not ours any more"
        )

    async def _send(self, claim: DeliveryClaim) -> Try:
        moment, started = datetime.now(UTC), time.monotonic()
        try:
            answer = await self._outgoing.post(claim.url, claim.body.encode(), sign(claim, moment))
        except NotSent as error:
            return Try(moment, time.monotonic() - started, error=str(error))
        except Exception:
            log.exception("delivery %s could not be sent", claim.event_id)
            return Try(moment, time.monotonic() - started, error="an error of the service; its log has more")
        return Try(moment, time.monotonic() - started, status_code=answer.status_code, excerpt=answer.excerpt)

    def _record(self, claim: DeliveryClaim, made: Try) -> bool:
        with self._sessions.begin() as session:
            if made.status_code is not None and 200 <= made.status_code < 300:
                return record_delivered(session, claim, made)
            if made.status_code == HTTPStatus.GONE:
                return record_gone(session, claim, made)
            delay = find_delay(claim.tries, self._draw())
            scaled = None if delay is None else delay * self._settings.webhook_delay_scale
            return record_failed(session, claim, made, delay_seconds=scaled)


def sign(claim: DeliveryClaim, moment: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks, with a signature by each secret that is valid."""
    signatures = [Webhook(secret).sign(claim.event_id, moment, claim.body) for secret in claim.secrets]
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "webhook-id": claim.event_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


@functools.cache
def open_courier(settings: Settings) -> Courier:
    """One per process: its connections live as long. Never opened before a fork."""
    sessions = make_sessions(open_engine(settings.database_url, pool_size=2))
    outgoing = Outgoing(settings.webhook_allow, timeout_seconds=settings.webhook_timeout_seconds)
    return Courier(settings, sessions, outgoing, drain.requested)


class DeliveryThread:
    """A thread beside the tasks of this process: the check of a large dataset delays no delivery, nor the reverse.

    It runs when a bell wakes it, and periodically without one: a task may keep this worker from hearing bells.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rung = threading.Event()
        self._thread = threading.Thread(target=self._go, name="courier", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._rung.set()

    def finish(self) -> None:
        self._rung.set()
        self._thread.join(self._settings.webhook_timeout_seconds + READ_SECONDS + RECORD_SECONDS)

    def _go(self) -> None:
        courier = open_courier(self._settings)
        while not drain.requested.is_set():
            self._rung.clear()
            try:
                courier.deliver_due()
            except Exception:
                log.exception("a round of deliveries failed")
            self._rung.wait(self._settings.sweep_seconds)


_threads: list[DeliveryThread] = []
"""None before the first bell, then the only one."""


def wake(settings: Settings) -> None:
    """Returns at once; the deliveries run beside it. For the thread that runs the tasks, never before a fork."""
    if not _threads:
        _threads.append(DeliveryThread(settings))
    _threads[0].wake()


def finish() -> None:
    """Ends the rounds, and waits for running deliveries, as long as one attempt may take."""
    drain.request_drain()
    for thread in _threads:
        thread.finish()
