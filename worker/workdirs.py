"""The folders that jobs are worked in on this machine; each stays until its job has ended, for its next attempt.

Beside them lies the cache that all jobs share: what a killed trainer left half written there belongs to no job.
"""

import logging
import shutil
import time
from contextlib import suppress
from pathlib import Path

from core.db.claims import list_unfinished
from core.settings import Settings
from worker.slot import Worker

PARTIAL_SECONDS = 3600.0
"""Nobody writes one file for that long."""

log = logging.getLogger("atelier.workdirs")


def workdir_of(settings: Settings, job_id: str) -> Path:
    return (settings.home / "work" / job_id).resolve()


def shared_cache_of(settings: Settings) -> Path:
    return settings.home / "cache" / "prior"


def remove_finished(worker: Worker) -> None:
    """Those of jobs that ended elsewhere, or with an attempt that could not clear up after itself."""
    root = worker.settings.home / "work"
    names = [folder.name for folder in root.iterdir()] if root.is_dir() else []
    if not names:
        return
    with worker.sessions() as session:
        unfinished = list_unfinished(session, names)
    for name in set(names) - unfinished:
        log.info("the folder of job %s is removed", name)
        shutil.rmtree(root / name, ignore_errors=True)


def remove_partial(settings: Settings) -> None:
    """Files that a trainer died over, by the name that they have until they are whole."""
    for path in shared_cache_of(settings).rglob("*.part"):
        with suppress(FileNotFoundError):  # another worker clears up too
            if time.time() - path.stat().st_mtime > PARTIAL_SECONDS:
                path.unlink()
