"""Every error that a caller of Atelier can cause or meet, each with its slug.

AtelierError
├── UserError                     the caller can fix it
│   ├── InvalidSpec               invalid-spec: a spec out of bounds, or with unknown fields
│   ├── UrlForbidden              url-forbidden: an address that the service does not call
│   ├── InvalidRequest            invalid-request: any other malformed request
│   ├── ArchiveRejected           archive-rejected: an archive that is broken or hostile
│   ├── ImageRejected             image-rejected: a file that is not a usable image
│   ├── DatasetRejected           dataset-rejected: a set without a usable image
│   ├── ModelRejected             model-rejected: a folder or file that is not a usable base model
│   ├── CaptionerRejected         captioner-rejected: a folder that is not a usable captioner
│   ├── AdapterRejected           adapter-rejected: a file that is not a usable adapter of this base model
│   ├── PublicationFailed         publication-failed: the Hub did not take an adapter
│   ├── WeightsRejected           weights-rejected: a .safetensors file with a broken or hostile header
│   ├── UnsupportedWeights        unsupported-weights: weights in any other format
│   ├── TooLarge                  too-large: a body or a set over its limit
│   ├── UnsupportedMedia          unsupported-media: an unsupported type of file
│   ├── NotFound                  not-found: it does not exist, or belongs to someone else
│   ├── WrongState                wrong-state: its state does not allow this
│   ├── IdempotencyMismatch       idempotency-mismatch: the same key with another body
│   ├── Unauthenticated           unauthenticated: no key, or an invalid one
│   ├── Forbidden                 forbidden: a valid key that may not do this
│   ├── QuotaExceeded             quota-exceeded: a limit of the tenant or the key is reached
│   └── CrossSite                 csrf: a request to the dashboard from another site
└── Unavailable                   unavailable: a part of the service does not respond; try again

``app.problems`` maps the slugs to HTTP status codes.
"""

from collections.abc import Mapping, Sequence
from typing import Self


def describe_problem(slug: str, title: str, detail: str) -> dict[str, str]:
    """What failed or was rejected has this as its ``error``; a response adds more (app/problems.py)."""
    return {"type": f"/problems/{slug}", "title": title, "detail": detail}


class AtelierError(Exception):
    """Base of the tree. ``detail`` is one or two sentences for a person and says what to do."""

    slug = "internal"
    title = "Something went wrong"

    def __init__(self, detail: str, errors: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = {pointer: list(messages) for pointer, messages in (errors or {}).items()}

    def describe(self) -> dict[str, str]:
        return describe_problem(self.slug, self.title, self.detail)


class UserError(AtelierError):
    """The caller can fix it."""


class InvalidSpec(UserError):
    slug, title = "invalid-spec", "Invalid spec"

    @classmethod
    def of(cls, errors: Mapping[str, str]) -> Self:
        """Of JSON pointers and what is wrong there, which is the detail too."""
        sentences = [f"{pointer}: {message}." for pointer, message in errors.items()]
        return cls(" ".join(sentences), {pointer: [message] for pointer, message in errors.items()})


class UrlForbidden(UserError):
    slug, title = "url-forbidden", "Address not allowed"


class InvalidRequest(UserError):
    slug, title = "invalid-request", "Invalid request"


class ArchiveRejected(UserError):
    slug, title = "archive-rejected", "Archive rejected"


class ImageRejected(UserError):
    slug, title = "image-rejected", "Image rejected"


class DatasetRejected(UserError):
    slug, title = "dataset-rejected", "Dataset rejected"


class ModelRejected(UserError):
    slug, title = "model-rejected", "Base model rejected"


class CaptionerRejected(UserError):
    slug, title = "captioner-rejected", "Captioner rejected"


class AdapterRejected(UserError):
    slug, title = "adapter-rejected", "Adapter rejected"


class PublicationFailed(UserError):
    slug, title = "publication-failed", "Publication failed"


class WeightsRejected(UserError):
    slug, title = "weights-rejected", "Invalid weights file"


class UnsupportedWeights(UserError):
    slug, title = "unsupported-weights", "Unsupported weights format"


class TooLarge(UserError):
    slug, title = "too-large", "Too large"


class UnsupportedMedia(UserError):
    slug, title = "unsupported-media", "Unsupported file type"


class NotFound(UserError):
    slug, title = "not-found", "Not found"


class WrongState(UserError):
    slug, title = "wrong-state", "Not possible in this state"


class IdempotencyMismatch(UserError):
    slug, title = "idempotency-mismatch", "Idempotency-Key reused with another body"


class Unauthenticated(UserError):
    slug, title = "unauthenticated", "Valid API key required"


class Forbidden(UserError):
    slug, title = "forbidden", "Not allowed for this API key"


class QuotaExceeded(UserError):
    """``retry_after_seconds``: when the same request may succeed, if time alone helps."""

    slug, title = "quota-exceeded", "Limit reached"

    def __init__(
        self,
        detail: str,
        errors: Mapping[str, Sequence[str]] | None = None,
        *,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(detail, errors)
        self.retry_after_seconds = retry_after_seconds


class CrossSite(UserError):
    slug, title = "csrf", "Request from another site refused"


class Unavailable(AtelierError):
    slug, title = "unavailable", "Part of the service is unavailable"
