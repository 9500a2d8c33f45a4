"""Storage keys. Only this module makes them; no user's name ever enters one."""

from typing import Literal

from core.domain.base import Frozen

AdapterFormat = Literal["kohya", "diffusers"]
ADAPTER_FORMATS: tuple[AdapterFormat, ...] = ("kohya", "diffusers")

ADAPTERS, DATASETS, GENERATIONS, JOBS = "adapters", "datasets", "generations", "jobs"
"""The folders. Objects in them that no row names are collected (core/db/references.py lists the named ones)."""


class Artifact(Frozen):
    """A file in storage that a job produced."""

    key: str
    sha256: str
    size: int


def upload_key(dataset_id: str, file_id: str) -> str:
    """A file as it was uploaded."""
    return f"{DATASETS}/{dataset_id}/uploads/{file_id}"


def image_key(dataset_id: str, sha256: str) -> str:
    """A validated image, re-encoded."""
    return f"{DATASETS}/{dataset_id}/images/{sha256}.png"


def thumbnail_key(dataset_id: str, sha256: str) -> str:
    """The thumbnail of an image, by the image's hash."""
    return f"{DATASETS}/{dataset_id}/images/{sha256}.webp"


def dataset_prefix(dataset_id: str) -> str:
    return f"{DATASETS}/{dataset_id}/"


def job_prefix(job_id: str) -> str:
    return f"{JOBS}/{job_id}/"


def attempt_key(job_id: str, attempt: int, name: str) -> str:
    """A file of one attempt: a late worker of an older attempt can never overwrite a newer one's."""
    return f"{JOBS}/{job_id}/a{attempt}/{name}"


def generation_prefix(generation_id: str) -> str:
    return f"{GENERATIONS}/{generation_id}/"


def generation_key(generation_id: str, attempt: int, name: str) -> str:
    """An image, under the attempt that drew it, as for a job."""
    return f"{GENERATIONS}/{generation_id}/a{attempt}/{name}"


def adapter_prefix(adapter_id: str) -> str:
    """The folder of an import, and of covers. The files of a job's adapter are with its job."""
    return f"{ADAPTERS}/{adapter_id}/"


def cover_key(adapter_id: str, cover_id: str) -> str:
    """An adapter's cover, also of a job's: a copy of an image. Each choice has a key of its own, so that the removal of
    the one before never meets it."""
    return f"{ADAPTERS}/{adapter_id}/cover/{cover_id}.png"


def sent_cover_prefix(adapter_id: str, cover_id: str) -> str:
    """The folder of a picture that was sent as a cover."""
    return f"{ADAPTERS}/{adapter_id}/cover/{cover_id}/"


def adapter_upload_key(adapter_id: str) -> str:
    """An adapter's file as it was uploaded."""
    return f"{ADAPTERS}/{adapter_id}/upload"


def adapter_key(adapter_id: str, attempt: int, name: str) -> str:
    """A file that the check of an import wrote, under its attempt, as for a job."""
    return f"{ADAPTERS}/{adapter_id}/a{attempt}/{name}"
