"""Copies a trainer's inputs from storage to local files."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from core.db.tables import JobCheckpoint
from core.domain.plan import InitAdapter, PlannedImage, TrainPlan
from core.storage import ObjectNotFound, Storage

IMAGE_DAMAGED = "An image of the dataset was damaged in storage: upload the set again."


class InputDamaged(Exception):
    """The store repeatedly returns other bytes than were stored. The message is for the job's owner."""


def fetch_files(storage: Storage, plan: TrainPlan, workdir: Path, check: Callable[[], None]) -> dict[str, Path]:
    """sha256 -> local file, of the images and of the adapter to start from. As ``fetch_images``."""
    files = fetch_images(storage, plan.images + plan.class_images, workdir / "images", check)
    if plan.init_adapter is not None:
        check()
        files[plan.init_adapter.sha256] = fetch_init_adapter(storage, plan.init_adapter, workdir / "init.safetensors")
    return files


def fetch_init_adapter(storage: Storage, init: InitAdapter, path: Path) -> Path:
    message = f"The file of the adapter {init.id} was damaged in storage: start from another, or import it again."
    if not path.exists() or _hash(path) != init.sha256:
        _fetch_whole(storage, init, path, message)
    return path


def fetch_images(
    storage: Storage, images: Iterable[PlannedImage], folder: Path, check: Callable[[], None]
) -> dict[str, Path]:
    """An image's sha256 -> its local file. Files from an earlier attempt are reused if they are intact.

    ``check`` is called before each, since there may be thousands, and may raise. Raises InputDamaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for image in images:
        check()
        path = folder / f"{image.sha256}.png"
        if not path.exists() or _hash(path) != image.sha256:
            _fetch_whole(storage, image, path, IMAGE_DAMAGED)
        files[image.sha256] = path
    return files


def _fetch_whole(storage: Storage, file: PlannedImage | InitAdapter, path: Path, message: str) -> None:
    """Tries twice. Other bytes than the plan's would make another adapter. Raises InputDamaged."""
    for _ in range(2):
        if storage.fetch(file.key, path).sha256 == file.sha256:
            return
    path.unlink()
    raise InputDamaged(message)


def fetch_checkpoint(storage: Storage, rows: Sequence[JobCheckpoint], path: Path) -> JobCheckpoint | None:
    """The first that has the right hash, as ``path``."""
    for row in rows:
        try:
            stored = storage.fetch(row.key, path)
        except ObjectNotFound:
            continue
        if stored.sha256 == row.sha256:
            return row
    return None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
