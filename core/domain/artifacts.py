"""Where things lie in storage. Keys are made here and nowhere else; no name of a user's enters one."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

AdapterFormat = Literal["kohya", "diffusers"]


class Artifact(BaseModel):
    """A file in storage that a job made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    sha256: str
    size: int


def upload_key(dataset_id: str, file_id: str) -> str:
    """A file as it was received."""
    return f"datasets/{dataset_id}/uploads/{file_id}"


def image_key(dataset_id: str, sha256: str) -> str:
    """A validated image, re-encoded."""
    return f"datasets/{dataset_id}/images/{sha256}.png"


def dataset_prefix(dataset_id: str) -> str:
    return f"datasets/{dataset_id}/"


def job_prefix(job_id: str) -> str:
    return f"jobs/{job_id}/"


def attempt_key(job_id: str, attempt: int, name: str) -> str:
    """A file of one attempt: a late worker of an older attempt can never overwrite a newer one's."""
    return f"jobs/{job_id}/a{attempt}/{name}"
