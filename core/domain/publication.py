"""Publications of adapters on the Hugging Face Hub: the order to the program that sends the files, and its answer."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field

from core.domain.base import Frozen

REPO_ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}$"
"""``owner/name``. The Hub also refuses ``--`` and ``..``, and names that end in ``.git``."""
LICENSE = r"^[a-z0-9][a-z0-9.+-]{0,49}$"
"""The Hub's identifiers of licences, such as ``openrail++``; the Hub says which there are."""
PUBLISH_SECONDS = 900
"""For all requests of one publication."""
MAX_IMAGES = 4
"""Sample images on a model card."""


class PublicationStatus(StrEnum):
    """publishing: a worker sends the files; published: see url; failed: see error."""

    PUBLISHING = "publishing"  # POST /adapters/{id}/publish
    PUBLISHED = "published"  # publishing -> published by the worker
    FAILED = "failed"  # publishing -> failed: the error says why


class PublicationSpec(Frozen):
    """What the client asks for. ``base_model``: the base's repository on the Hub."""

    repo_id: str
    private: bool
    overwrite: bool
    base_model: str | None
    license: str | None


class PublishOrder(Frozen):
    """``files``: path in the repository -> the file. ``weights``: SHA-256 of the adapter's files: a repository that has
    one of them is this adapter's own. ``token``: of the account that publishes."""

    endpoint: str
    token: str = Field(repr=False)
    repo_id: str
    private: bool
    overwrite: bool
    files: dict[str, Path]
    weights: tuple[str, ...]
    message: str
    timeout_seconds: float = PUBLISH_SECONDS


class PublishAnswer(Frozen):
    """Either the ``url`` of the repository and the ``commit``, or the reason for the refusal."""

    url: str | None = None
    commit: str | None = None
    refusal: str | None = None


def check_repo_id(repo_id: str) -> str:
    """What the pattern cannot say. Raises ValueError."""
    if "--" in repo_id or ".." in repo_id or repo_id.endswith((".git", ".", "-")):
        raise ValueError("a repository is called owner/name, without -- and .., and does not end in .git, . or -")
    return repo_id
