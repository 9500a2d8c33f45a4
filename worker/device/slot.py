"""A device slot: the state of one training worker between jobs."""

import functools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session, sessionmaker

from core.db.session import make_sessions, open_engine
from core.db.workers import record_worker
from core.settings import Settings
from core.storage import Storage, open_store_of
from worker.device.heartbeat import GRACE_SECONDS, Heartbeats
from worker.device.trainer import TrainerHandle


@dataclass
class DeviceSlot:
    """The state of one worker process between jobs: connections, and a warm trainer."""

    settings: Settings
    trainer: TrainerHandle | None = None
    job_id: str | None = None  # the current job
    keeps_bases: bool = True  # False once a job had too little memory beside other bases
    _memory_bytes: int | None = None  # from the last trainer; a new worker does not know it yet
    _registering: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def sessions(self) -> sessionmaker[Session]:
        return make_sessions(open_engine(self.settings.database_url))

    @cached_property
    def bell(self) -> redis.Redis:
        once = Retry(NoBackoff(), 0)
        return redis.Redis.from_url(self.settings.redis_url, socket_timeout=2, socket_connect_timeout=2, retry=once)

    @cached_property
    def storage(self) -> Storage:
        return open_store_of(self.settings)

    @cached_property
    def heartbeats(self) -> Heartbeats:
        return Heartbeats(
            self.sessions,
            beat_seconds=self.settings.heartbeat_seconds,
            lease_seconds=self.settings.lease_seconds,
        )

    @property
    def name(self) -> str:
        """Such as ``host/cuda:0/0``: at most one job is held under it."""
        return f"{socket.gethostname()}/{self.settings.device}/{self.settings.slot}"

    @property
    def warm_models(self) -> tuple[str, ...]:
        """The ids of the bases that its trainer holds in memory."""
        trainer = self.trainer  # another thread may drop it meanwhile
        return trainer.warm_models if trainer is not None and trainer.is_alive() else ()

    def warm_trainer(self) -> TrainerHandle:
        if self.trainer is None or not self.trainer.is_alive():
            self.drop_trainer()
            home, slot = self.settings.home, self.settings.slot
            log_file = home / "log" / f"trainer-{slot}.log"
            self.trainer = TrainerHandle(
                device=self.settings.device, slot=slot, home=home, log_file=log_file, keeps_bases=self.keeps_bases
            )
        return self.trainer

    def drop_trainer(self) -> None:
        if self.trainer is not None:
            self.trainer.kill()
            self.trainer = None

    def try_to_register(self) -> None:
        """Bookkeeping: a database outage here ends nothing that was just claimed."""
        with suppress(DBAPIError, PoolTimeoutError):
            self.register()

    @contextmanager
    def staying_registered(self) -> Iterator[None]:
        """Whatever this worker does in the meantime: captions and merges take minutes, as trainings do."""
        self.try_to_register()
        over = threading.Event()

        def stay() -> None:
            while not over.wait(self.settings.heartbeat_seconds):
                self.try_to_register()

        thread = threading.Thread(target=stay, name="registration", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(GRACE_SECONDS)

    def register(self) -> None:
        """Records that this worker is alive, and its current job."""
        with self._registering, self.sessions.begin() as session:  # a late thread writes nothing older
            trainer = self.trainer
            self._memory_bytes = (trainer and trainer.memory_bytes) or self._memory_bytes
            record_worker(
                session,
                worker_id=self.name,
                device=self.settings.device,
                device_name=trainer.device_name if trainer else "",
                memory_bytes=self._memory_bytes,
                job_id=self.job_id,
                warm_models=self.warm_models,
            )


@functools.cache
def open_slot(settings: Settings) -> DeviceSlot:
    """One per process: connections and the trainer live as long as it does. Never opened before a fork."""
    return DeviceSlot(settings)
