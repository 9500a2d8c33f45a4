"""What a trainer needs, from storage to local files."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from core.db.tables import JobCheckpoint
from core.domain.plan import InitAdapter, PlannedImage, TrainPlan
from core.storage import ObjectNotFound, Storage, StorageError


def fetch_files(storage: Storage, plan: TrainPlan, workdir: Path, check: Callable[[], None]) -> dict[str, Path]:
    """sha256 -> local file, of the images and of the adapter to start from. As ``fetch_images``; raises StorageError
    for an adapter that is not the one of the plan."""
    files = fetch_images(storage, plan.images, workdir / "images", check)
    if plan.init_adapter is not None:
        check()
        files[plan.init_adapter.sha256] = fetch_init_adapter(storage, plan.init_adapter, workdir / "init.safetensors")
    return files


def fetch_init_adapter(storage: Storage, init: InitAdapter, path: Path) -> Path:
    if not path.exists() or _hash(path) != init.sha256:
        stored = storage.fetch(init.key, path)
        if stored.sha256 != init.sha256:
            raise StorageError(f"the file of {init.id} was damaged")
    return path


def fetch_images(
    storage: Storage, images: Iterable[PlannedImage], folder: Path, check: Callable[[], None]
) -> dict[str, Path]:
    """Image's sha256 -> local file. What an earlier attempt fetched is taken if it is whole.

    ``check`` is called before each, for there may be thousands, and may raise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for image in images:
        check()
        path = folder / f"{image.sha256}.png"
        if not path.exists() or _hash(path) != image.sha256:
            _fetch_whole(storage, image, path)
        files[image.sha256] = path
    return files


def _fetch_whole(storage: Storage, image: PlannedImage, path: Path) -> None:
    """Raises StorageError for what is not what the manifest says: another adapter would come of it."""
    stored = storage.fetch(image.key, path)
    if stored.sha256 != image.sha256:
        path.unlink()
        raise StorageError(f"{image.key} was damaged")


def fetch_checkpoint(storage: Storage, rows: Sequence[JobCheckpoint], path: Path) -> JobCheckpoint | None:
    """The first that verifies, as ``path``."""
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
