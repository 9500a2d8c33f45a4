"""Every error that a caller of Atelier can cause or meet, with the slug it is shown under.

AtelierError
├── UserError                     the caller can mend it
│   ├── InvalidSpec               invalid-spec: a training spec out of bounds, or with unknown fields
│   ├── UrlForbidden              url-forbidden: an address that the service does not call
│   ├── InvalidRequest            invalid-request: any other malformed request
│   ├── ArchiveRejected           archive-rejected: an archive that is broken or hostile
│   ├── ImageRejected             image-rejected: a file that is no usable picture
│   ├── DatasetRejected           dataset-rejected: nothing in the set can be learned from
│   ├── ModelRejected             model-rejected: a folder or file that is no usable base
│   ├── AdapterRejected           adapter-rejected: a file that is no usable adapter of this base
│   ├── WeightsRejected           weights-rejected: a .safetensors file with a broken or hostile header
│   ├── UnsupportedWeights        unsupported-weights: weights in any other format
│   ├── TooLarge                  too-large: a body or a set over its limit
│   ├── UnsupportedMedia          unsupported-media: a kind of file that is not taken
│   ├── NotFound                  not-found: no such thing, or not yours
│   ├── WrongState                wrong-state: the thing is not in a state that allows this
│   ├── IdempotencyMismatch       idempotency-mismatch: the same key with another body
│   ├── Unauthenticated           unauthenticated: no key, or not a valid one
│   ├── Forbidden                 forbidden: a valid key that may not do this
│   ├── QuotaExceeded             quota-exceeded: more, or faster, than the tenant or the key may
│   └── CrossSite                 csrf: a request to the dashboard from another site
└── Unavailable                   unavailable: a part of the service does not answer; try again

HTTP codes are not known here: ``app.problems`` maps slugs to them.
"""

from collections.abc import Mapping, Sequence


class AtelierError(Exception):
    """Base of the tree. ``detail`` is one or two sentences for a person and says what to do."""

    slug = "internal"
    title = "Something went wrong"

    def __init__(self, detail: str, errors: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = {pointer: list(messages) for pointer, messages in (errors or {}).items()}


class UserError(AtelierError):
    """The caller can mend it."""


class InvalidSpec(UserError):
    slug, title = "invalid-spec", "The training spec is not valid"


class UrlForbidden(UserError):
    slug, title = "url-forbidden", "The service does not call this address"


class InvalidRequest(UserError):
    slug, title = "invalid-request", "The request is not valid"


class ArchiveRejected(UserError):
    slug, title = "archive-rejected", "The archive cannot be taken"


class ImageRejected(UserError):
    slug, title = "image-rejected", "The image cannot be taken"


class DatasetRejected(UserError):
    slug, title = "dataset-rejected", "The dataset cannot be learned from"


class ModelRejected(UserError):
    slug, title = "model-rejected", "The base model cannot be taken"


class AdapterRejected(UserError):
    slug, title = "adapter-rejected", "The adapter cannot be taken"


class WeightsRejected(UserError):
    slug, title = "weights-rejected", "The file of weights cannot be taken"


class UnsupportedWeights(UserError):
    slug, title = "unsupported-weights", "Weights are taken as .safetensors alone"


class TooLarge(UserError):
    slug, title = "too-large", "Too large"


class UnsupportedMedia(UserError):
    slug, title = "unsupported-media", "This kind of file is not taken"


class NotFound(UserError):
    slug, title = "not-found", "Not found"


class WrongState(UserError):
    slug, title = "wrong-state", "Not possible in this state"


class IdempotencyMismatch(UserError):
    slug, title = "idempotency-mismatch", "This Idempotency-Key was used with another body"


class Unauthenticated(UserError):
    slug, title = "unauthenticated", "A valid API key is needed"


class Forbidden(UserError):
    slug, title = "forbidden", "This key may not do that"


class QuotaExceeded(UserError):
    """``retry_after_seconds``: when the same request may succeed, where time alone helps."""

    slug, title = "quota-exceeded", "A limit is reached"

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
    slug, title = "csrf", "Refused: the request came from another site"


class Unavailable(AtelierError):
    slug, title = "unavailable", "A part of the service does not answer"
