"""``python -m worker.steward``: ensures that nothing waits for ever, whatever happened to bells and workers, and that
storage keeps no unneeded objects.

A plain process beside Celery, since recovery must not depend on the consumers whose freezes it cures. Any number may
run: one leads, by a lock that its database connection holds, and the others stand by.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from core.db.adapter_checks import expire_checks
from core.db.adapter_claims import expire_imports
from core.db.captioners import expire_registrations
from core.db.captioning_claims import expire_captionings
from core.db.covers import expire_covers
from core.db.dataset_claims import expire_validations
from core.db.delivery_claims import count_due_deliveries, expire_deliveries
from core.db.generation_claims import expire_generations
from core.db.idempotency import forget_expired
from core.db.job_claims import expire_leases
from core.db.leases import count_waiting
from core.db.promotions import expire_promotions
from core.db.publications import expire_publications
from core.db.session import open_engine
from core.db.steward import count_due_jobs, try_to_lead
from core.db.tables import (
    Adapter,
    AdapterCheck,
    Captioner,
    Captioning,
    Checked,
    Dataset,
    Generation,
    Job,
    Promotion,
    Publication,
    SentCover,
)
from core.doorbell import CeleryDoorbell
from core.logs import configure_logging
from core.queue import Bell, Doorbell
from core.settings import Settings, load_settings
from worker.collector import collect_for_ever
from worker.parent import die_with_parent

MAX_RINGS = 8
"""Per round: this many workers are woken at once. Each works until nothing is due."""
FORGET_SECONDS = 3600.0
KEEPALIVE_ROUNDS = 2
"""Every so many rounds, all queues are rung, so that a deaf worker notices."""

T = TypeVar("T")

log = logging.getLogger("atelier.steward")


@dataclass
class Round:
    """A periodic action. The first time at ``next_at``, on the monotonic clock."""

    period_seconds: float
    next_at: float
    act: Callable[[Connection], None]

    def act_if_due(self, connection: Connection) -> None:
        if time.monotonic() >= self.next_at:
            self.act(connection)
            self.next_at = time.monotonic() + self.period_seconds


class Steward:
    def __init__(self, settings: Settings, doorbell: Doorbell) -> None:
        self._settings, self._doorbell = settings, doorbell
        self._engine = open_engine(settings.database_url, pool_size=1)
        self._stands_by = False
        self.leads = threading.Event()

    def run(self) -> NoReturn:
        """Waits to lead, and leads; after a lost connection it starts again."""
        while True:
            try:
                with self._engine.connect() as connection:
                    if self._is_leader(connection):
                        self.leads.set()
                        self._lead(connection)
            except SQLAlchemyError as error:
                log.warning("the database is unreachable: %s", error)
            self.leads.clear()
            time.sleep(self._settings.sweep_seconds)

    def _is_leader(self, connection: Connection) -> bool:
        with Session(connection) as session, session.begin():
            leads = try_to_lead(session)
        if leads:
            log.info("this steward leads")
        elif not self._stands_by:
            log.info("another steward leads; this one stands by")
        self._stands_by = not leads
        return leads

    def _lead(self, connection: Connection) -> NoReturn:
        """All over the connection that holds the lock: a steward that loses it does nothing more.

        Workers may have lost the database together with this steward, and could not renew their leases: so they get one
        lease's time before anything is taken from them.
        """
        settings, now = self._settings, time.monotonic()
        rounds = [
            Round(settings.sweep_seconds, now + settings.lease_seconds, self.take_back),
            Round(settings.sweep_seconds, now, self.hand_out_deliveries),
            Round(settings.ring_seconds, now, self.ring_for_what_waits),
            Round(settings.ring_seconds * KEEPALIVE_ROUNDS, now + settings.ring_seconds, self.ring_all),
            Round(FORGET_SECONDS, now, self.forget),
        ]
        while True:
            for each in rounds:
                each.act_if_due(connection)
            time.sleep(max(0.0, min(each.next_at for each in rounds) - time.monotonic()))

    def take_back(self, connection: Connection) -> None:
        """The claims of silent workers go back to the queue, and other workers are woken for them."""
        jobs = self._ask(connection, expire_leases) or []
        datasets = self._ask(connection, expire_validations) or []
        adapters = self._ask(connection, expire_imports) or []
        generations = self._ask(connection, expire_generations) or []
        checks = self._ask(connection, expire_checks) or []
        promotions = self._ask(connection, expire_promotions) or []
        captioners = self._ask(connection, expire_registrations) or []
        captionings = self._ask(connection, expire_captionings) or []
        sent = self._ask(connection, expire_publications) or []
        pictures = self._ask(connection, expire_covers) or []
        taken: list[Job | Checked] = [
            *jobs, *datasets, *adapters, *generations, *checks, *promotions, *captioners, *captionings, *sent,
            *pictures,
        ]  # fmt: skip
        for item in taken:
            log.warning("%s was taken back from its worker at attempt %d", item.id, item.attempt)
        if taken:
            self.ring_for_what_waits(connection)
        for delivery in self._ask(connection, expire_deliveries) or []:
            log.warning("delivery %s was taken back from its worker", delivery.event_id)

    def hand_out_deliveries(self, connection: Connection) -> None:
        """One bell is enough: the worker that hears it sends until nothing is due."""
        if self._ask(connection, count_due_deliveries):
            self._doorbell.ring("deliver")

    def ring_for_what_waits(self, connection: Connection) -> None:
        read_with_torch = (Adapter, AdapterCheck, Promotion, Captioner)
        with_torch = tuple(partial(count_waiting, table=table) for table in read_with_torch)
        drawn = tuple(partial(count_waiting, table=table) for table in (Generation, Captioning))
        waiting: dict[Bell, tuple[Callable[[Session], int], ...]] = {
            "train": (count_due_jobs, *drawn, *with_torch),
            # Adapters and captioners are read by workers with torch: a CPU worker may lack it, and a training one may
            # be busy for hours.
            "validate": (
                *(partial(count_waiting, table=table) for table in (Dataset, Publication, SentCover)),
                *with_torch,
            ),
        }
        for bell, counts in waiting.items():
            num_workers = sum(min(self._ask(connection, count) or 0, MAX_RINGS) for count in counts)
            if num_workers:
                self._doorbell.ring(bell, num_workers)

    def ring_all(self, connection: Connection) -> None:
        bells: tuple[Bell, ...] = ("train", "validate")
        for bell in bells:
            self._doorbell.ring(bell)

    def forget(self, connection: Connection) -> None:
        self._ask(connection, forget_expired)

    def _ask(self, connection: Connection, query: Callable[[Session], T]) -> T | None:
        """In a transaction of its own: a failure of one item does not keep the others from their turn."""
        try:
            with Session(connection, expire_on_commit=False) as session, session.begin():
                return query(session)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            log.exception("a round of the steward failed")
            return None


def main() -> NoReturn:
    configure_logging("steward")
    die_with_parent(os.getppid())
    # At once, wherever it is: the database rolls back what is not committed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = load_settings()
    steward = Steward(settings, CeleryDoorbell(settings.redis_url))
    # Beside the steward, over a connection of its own: a large or slow store must not delay urgent work.
    threading.Thread(target=collect_for_ever, args=(settings, steward.leads), name="collector", daemon=True).start()
    steward.run()


if __name__ == "__main__":
    main()
