"""Conditional and range requests for a file whose ETag and size are known (RFC 9110, sections 13 and 14)."""

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from core.domain.errors import UserError

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.IGNORECASE)
_TAG = re.compile(r'(W/)?("[^"]*")')


@dataclass(frozen=True)
class Span:
    """Bytes ``start`` to ``end``, the latter not included."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


class RangeNotSatisfiable(UserError):
    """The range begins after the end of the file, which has ``size`` bytes."""

    slug, title = "range-not-satisfiable", "Range outside the file"

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size:,} bytes, and the requested range begins after them.")
        self.size = size


class PreconditionFailed(UserError):
    """If-Match names another version of the file."""

    slug, title = "precondition-failed", "Another version of the file"


def check_match(headers: Headers, etag: str) -> None:
    """If-Match, by strong comparison (13.1.1). Raises PreconditionFailed."""
    given = ", ".join(headers.getlist("if-match")).strip()
    strong = [tag for weak, tag in _TAG.findall(given) if not weak]
    if given and given != "*" and etag not in strong:
        raise PreconditionFailed("If-Match names another version of the file: leave it out, or fetch the current one.")


def is_known(headers: Headers, etag: str) -> bool:
    """Whether If-None-Match names the current file: by weak comparison (13.1.2)."""
    given = ", ".join(headers.getlist("if-none-match"))
    return given.strip() == "*" or etag in [tag for _, tag in _TAG.findall(given)]


def find_span(headers: Headers, etag: str, size: int) -> Span | None:
    """The requested part, None for the whole. Raises RangeNotSatisfiable.

    A Range in another unit, of several parts or malformed is ignored, as 14.2 allows. If-Range must be this
    very ETag, by strong comparison (13.1.5); a date never matches, since files have no Last-Modified here.
    """
    match = _RANGE.fullmatch(headers.get("range", ""))
    if match is None or headers.get("if-range", etag).strip() != etag:
        return None
    return _read_span(*match.groups(), size=size)


def _read_span(first: str, last: str, *, size: int) -> Span | None:
    if not first:
        if not last:
            return None
        if int(last) == 0 or size == 0:
            raise RangeNotSatisfiable(size)
        return Span(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise RangeNotSatisfiable(size)
    return Span(int(first), min(size, int(last) + 1) if last else size)
