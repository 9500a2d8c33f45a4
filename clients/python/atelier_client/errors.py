"""What can go wrong between a program and the service.

ClientError                       base; ``str(error)`` is one sentence or two for a person, and says what to do
├── InputError                    the folder, file or value cannot be sent; nothing was sent
├── ConnectionFailed              the service does not answer, or a proxy says so in its place
├── UnexpectedAnswer              the answer does not follow Atelier's HTTP contract
├── ApiError                      the service refused; ``problem`` is its RFC 9457 document
├── DatasetUnusable               the dataset was rejected, or is still open; ``dataset`` has the report
├── AdapterUnusable               the imported adapter was rejected
├── ModelUnusable                 the base was rejected; ``model`` is its latest state
├── CaptionerUnusable             the captioner was rejected; ``captioner`` is its latest state
├── JobEnded                      the job failed or was canceled; ``job`` has the reason
├── GenerationEnded               the generation failed or was canceled; ``generation`` has the reason
├── CaptioningEnded               the captioning failed or was canceled; ``captioning`` has the reason
├── CoverRejected                 the service cannot use a picture as a cover
├── PublicationFailed             the Hub did not take an adapter
├── PromotionFailed               another step's adapter did not become the job's
├── SamplesNotDrawn               the samples that were requested of a job cannot be drawn
├── WaitTimeout                   the wait took longer than its timeout
└── DownloadDamaged               the bytes received differ from those that the service announced
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atelier_client.captions import Captioner, Captioning
    from atelier_client.generations import Generation
    from atelier_client.models import Dataset, Job, Model


PASSING_STATUSES = frozenset({502, 503, 504})
"""The service, or a proxy in front of it, cannot answer at the moment."""


class ClientError(Exception):
    """Base class of all errors of the client."""


class InputError(ClientError):
    """Found before anything was sent."""


class ConnectionFailed(ClientError):
    """The connection could not be made, or it broke."""


class UnexpectedAnswer(ClientError):
    """The answer of a proxy, of another service or of an incompatible version."""


class CoverRejected(ClientError):
    """The service cannot use a picture as a cover."""


class PublicationFailed(ClientError):
    """The Hub did not take an adapter."""


class WaitTimeout(ClientError):
    """Only the wait ended; the service continues its work."""


class DownloadDamaged(ClientError):
    """The target was not written."""


class AdapterUnusable(ClientError):
    """The message says why the imported file cannot be used."""


class ModelUnusable(ClientError):
    def __init__(self, message: str, model: "Model") -> None:
        super().__init__(message)
        self.model = model


class JobEnded(ClientError):
    def __init__(self, message: str, job: "Job") -> None:
        super().__init__(message)
        self.job = job


class GenerationEnded(ClientError):
    def __init__(self, message: str, generation: "Generation") -> None:
        super().__init__(message)
        self.generation = generation


class PromotionFailed(ClientError):
    """Another step's adapter could not become the job's."""


class SamplesNotDrawn(ClientError):
    """The job ended first, or its device has too little memory."""


class CaptionerUnusable(ClientError):
    def __init__(self, message: str, captioner: "Captioner") -> None:
        super().__init__(message)
        self.captioner = captioner


class CaptioningEnded(ClientError):
    def __init__(self, message: str, captioning: "Captioning") -> None:
        super().__init__(message)
        self.captioning = captioning


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
    """None if ``body`` is not a problem document."""
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
