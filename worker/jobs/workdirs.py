"""The jobs' working folders on this machine; each stays until its job has ended, for the next attempt.

Beside them is a cache: what bases drew, for all jobs, and each tenant's encoded images and captions, for its own. The
least recently used files are deleted when it grows too large, and every file that was not used for a week.
"""

import logging
import shutil
import time
from contextlib import suppress
from pathlib import Path

from core.db.job_claims import list_unfinished
from core.settings import Settings
from worker.device.slot import DeviceSlot

PARTIAL_SECONDS = 3600.0
"""Longer than any write of one file takes."""
MAX_CACHE_BYTES = 4 * 1024**3
CACHED = {".prior", ".latents", ".conditioning"}
UNUSED_SECONDS = 7 * 24 * 3600.0
"""Encoded images outlive their dataset by no more than this."""

log = logging.getLogger("atelier.workdirs")


def workdir_of(settings: Settings, job_id: str) -> Path:
    return (settings.home / "work" / job_id).resolve()


def cache_of(settings: Settings) -> Path:
    return settings.home / "cache"


def shared_cache_of(settings: Settings) -> Path:
    return cache_of(settings) / "prior"


def encodings_of(settings: Settings, tenant_id: str) -> Path:
    """Never read for another tenant's job: whether a file is there tells what was trained."""
    return cache_of(settings) / "encodings" / tenant_id


def remove_finished(slot: DeviceSlot) -> None:
    """The folders of jobs that ended elsewhere, or with an attempt that could not clean up."""
    root = slot.settings.home / "work"
    names = [folder.name for folder in root.iterdir()] if root.is_dir() else []
    if not names:
        return
    with slot.sessions() as session:
        unfinished = list_unfinished(session, names)
    for name in set(names) - unfinished:
        log.info("the folder of job %s is removed", name)
        shutil.rmtree(root / name, ignore_errors=True)


def tidy_cache(settings: Settings) -> None:
    _remove_partial(settings)
    _remove_unused(settings)


def _remove_unused(settings: Settings) -> None:
    """Clients choose the class prompts and the images, so their number is unlimited. A job that needs deleted files
    makes them again; it touches those that it uses."""
    files: list[tuple[float, int, Path]] = []
    for path in cache_of(settings).rglob("*"):
        with suppress(FileNotFoundError):
            if path.suffix in CACHED:
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
    excess = sum(size for _, size, _ in files) - MAX_CACHE_BYTES
    oldest = time.time() - UNUSED_SECONDS
    for used_at, size, path in sorted(files):
        if excess <= 0 and used_at >= oldest:
            break
        path.unlink(missing_ok=True)
        excess -= size


def _remove_partial(settings: Settings) -> None:
    """The temporary files of a trainer that died while writing them."""
    for path in cache_of(settings).rglob("*.part"):
        with suppress(FileNotFoundError):  # another worker cleans up too
            if time.time() - path.stat().st_mtime > PARTIAL_SECONDS:
                path.unlink()
