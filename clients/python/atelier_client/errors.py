"""What can go wrong between a program and the service.

ClientError                       base; ``str(error)`` is one sentence or two for a person, and says what to do
├── InputError                    the folder, file or value given here cannot be sent; nothing was
├── ConnectionFailed              the service does not answer, or a proxy says so in its place
├── UnexpectedAnswer              something answered that does not speak Atelier's contract
├── ApiError                      the service refused; ``problem`` is its RFC 9457 document
├── DatasetUnusable               the dataset was rejected, or is still open; ``dataset`` has the report
├── AdapterUnusable               the imported adapter was rejected
├── ModelUnusable                 the base was rejected; ``model`` is as the service knows it
├── JobEnded                      the job failed or was canceled; ``job`` has the reason
├── WaitTimeout                   what was waited for did not come in time
└── DownloadDamaged               the bytes received are not those that the service announced
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atelier_client.models import Dataset, Job, Model


PASSING_STATUSES = frozenset({502, 503, 504})
"""The service, or a proxy before it, cannot answer for now."""


class ClientError(Exception):
    """Base of the tree."""


class InputError(ClientError):
    """Found before anything was sent."""


class ConnectionFailed(ClientError):
    """No connection, or it broke and did not come back."""


class UnexpectedAnswer(ClientError):
    """An answer out of contract: a proxy's page, another service, or another version."""


class WaitTimeout(ClientError):
    """The thing goes on; only the waiting ended."""


class DownloadDamaged(ClientError):
    """Nothing was left at the target."""


class AdapterUnusable(ClientError):
    """The check of an import found that it cannot be used, and why."""


class ModelUnusable(ClientError):
    def __init__(self, message: str, model: "Model") -> None:
        super().__init__(message)
        self.model = model


class JobEnded(ClientError):
    def __init__(self, message: str, job: "Job") -> None:
        super().__init__(message)
        self.job = job


class DatasetUnusable(ClientError):
    def __init__(self, message: str, dataset: "Dataset") -> None:
        super().__init__(message)
        self.dataset = dataset


@dataclass(frozen=True)
class Problem:
    """RFC 9457 ``application/problem+json``. ``errors`` maps JSON pointers to messages."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    errors: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        return self.type.rsplit("/", 1)[-1]


class ApiError(ClientError):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem


def parse_problem(status: int, body: Any) -> Problem | None:
    """None when ``body`` is no problem document."""
    if not isinstance(body, dict) or not isinstance(body.get("title"), str):
        return None
    errors = body.get("errors")
    return Problem(
        type=str(body.get("type", "about:blank")),
        title=body["title"],
        status=status,
        detail=str(body.get("detail") or ""),
        instance=body.get("instance"),
        errors=errors if isinstance(errors, dict) else {},
    )


def is_passing(error: ClientError) -> bool:
    """Whether the same call may succeed a moment later."""
    if isinstance(error, ApiError):
        return error.problem.status in PASSING_STATUSES
    return isinstance(error, ConnectionFailed | DownloadDamaged)
