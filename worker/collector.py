"""Removes objects in storage that no row names: remains of failed deletions, late workers and lost attempts.

Nothing is removed that a row might still come to name. An object is collected only if it is older than a day and in
the folder of a job, a dataset, a generation or an imported adapter that is gone, or has ended and does not name it. A
store belongs to one database, which leaves a mark there: a service with an empty or another database collects nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import NoReturn

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from core.db.references import (
    identify_database,
    list_adapter_references,
    list_dataset_references,
    list_generation_references,
    list_job_references,
)
from core.db.session import make_sessions, open_engine
from core.domain.artifacts import ADAPTERS, DATASETS, GENERATIONS, JOBS
from core.settings import Settings
from core.storage import ObjectNotFound, Storage, StorageError, open_store_of

MIN_AGE = timedelta(days=1)
"""Far longer than any upload takes, from its first object to the row that names it."""
MARK = "service/database"

References = Callable[[Session, str], frozenset[str] | None]
# Folder -> the prefix of an owner's id there, and the query for the keys that its rows name.
_OWNERS: dict[str, tuple[str, References]] = {
    JOBS: ("job_", list_job_references),
    DATASETS: ("ds_", list_dataset_references),
    ADAPTERS: ("ad_", list_adapter_references),
    GENERATIONS: ("gen_", list_generation_references),
}

log = logging.getLogger("atelier.collector")


def collect_for_ever(settings: Settings, leads: threading.Event) -> NoReturn:
    """Periodically, while ``leads`` is set. In a thread: failures are retried in the next round."""
    sessions = make_sessions(open_engine(settings.database_url, pool_size=1))
    while True:
        leads.wait()
        try:
            Collector(sessions, open_store_of(settings)).collect(datetime.now(UTC) - MIN_AGE)
        except (SQLAlchemyError, StorageError) as error:
            log.warning("unneeded objects stay in storage until the next round: %s", error)
        except Exception:
            log.exception("collecting failed")
        time.sleep(settings.collect_seconds)


class Collector:
    def __init__(self, sessions: sessionmaker[Session], storage: Storage) -> None:
        self._sessions, self._storage = sessions, storage

    def collect(self, written_before: datetime) -> int:
        """Returns the number of removed objects. Safe beside another collector, and at any time."""
        if not self._is_ours():
            return 0
        count = sum(self._collect_folder(folder, written_before) for folder in _OWNERS)
        if count:
            log.info("%d objects that nothing names were removed from storage", count)
        return count

    def _is_ours(self) -> bool:
        """Whether the store belongs to this database. The first database that asks gets it."""
        with self._sessions() as session:
            identity = identify_database(session)
        try:
            owner = self._storage.read(MARK).decode()
        except ObjectNotFound:
            self._storage.put(MARK, identity.encode())
            return True
        if owner != identity:
            log.error(
                "the store belongs to another database: nothing is collected until its object %s is removed", MARK
            )
        return owner == identity

    def _collect_folder(self, folder: str, written_before: datetime) -> int:
        """Owner by owner, as the keys are listed in order."""
        prefix, list_references = _OWNERS[folder]
        count = 0
        for owner_id, objects in groupby(self._storage.list(folder), key=lambda found: found.key.split("/")[1]):
            old = [found.key for found in objects if found.modified < written_before]
            if old and owner_id.startswith(prefix):  # a bucket may contain other objects under such a name
                count += self._collect_owner(owner_id, old, list_references)
        return count

    def _collect_owner(self, owner_id: str, old: Sequence[str], list_references: References) -> int:
        with self._sessions() as session:
            references = list_references(session, owner_id)
        if references is None:
            return 0
        unneeded = [key for key in old if key not in references]
        for key in unneeded:
            self._storage.delete(key)
        return len(unneeded)
