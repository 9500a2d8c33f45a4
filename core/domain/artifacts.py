"""Where things lie in storage. Keys are made here and nowhere else; no name of a user's enters one."""

from typing import Literal

from core.domain.base import Frozen

AdapterFormat = Literal["kohya", "diffusers"]
ADAPTER_FORMATS: tuple[AdapterFormat, ...] = ("kohya", "diffusers")

ADAPTERS, DATASETS, JOBS = "adapters", "datasets", "jobs"
"""The folders. What no row names is collected in them (core/db/references.py says what is named)."""


class Artifact(Frozen):
    """A file in storage that a job made."""

    key: str
    sha256: str
    size: int


def upload_key(dataset_id: str, file_id: str) -> str:
    """A file as it was received."""
    return f"{DATASETS}/{dataset_id}/uploads/{file_id}"


def image_key(dataset_id: str, sha256: str) -> str:
    """A validated image, re-encoded."""
    return f"{DATASETS}/{dataset_id}/images/{sha256}.png"


def dataset_prefix(dataset_id: str) -> str:
    return f"{DATASETS}/{dataset_id}/"


def job_prefix(job_id: str) -> str:
    return f"{JOBS}/{job_id}/"


def attempt_key(job_id: str, attempt: int, name: str) -> str:
    """A file of one attempt: a late worker of an older attempt can never overwrite a newer one's."""
    return f"{JOBS}/{job_id}/a{attempt}/{name}"


def adapter_prefix(adapter_id: str) -> str:
    """Of an import. A job's adapter lies with its job."""
    return f"{ADAPTERS}/{adapter_id}/"


def adapter_upload_key(adapter_id: str) -> str:
    """An adapter's file as it was received."""
    return f"{ADAPTERS}/{adapter_id}/upload"


def adapter_key(adapter_id: str, attempt: int, name: str) -> str:
    """A file that the check of an import wrote, under its attempt as a job's."""
    return f"{ADAPTERS}/{adapter_id}/a{attempt}/{name}"
