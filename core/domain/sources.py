"""Datasets whose files are fetched from addresses: what their files are called, and which types are taken."""

import re
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field

from core.domain.dataset import ARCHIVE_SUFFIXES, is_archive_name
from core.domain.filenames import fold
from core.domain.receivers import MAX_URL_LENGTH, Receiver
from core.domain.revision import find_free_name

MAX_URLS = 1000
_MAX_NAME_CHARS = 100
_SUFFIX_OF = {
    "application/zip": ".zip",
    "application/x-zip-compressed": ".zip",
    "application/x-tar": ".tar",
    "application/gzip": ".tar.gz",
    "application/x-gzip": ".tar.gz",
    "application/x-bzip2": ".tar.bz2",
    "application/x-xz": ".tar.xz",
}
_UNSPECIFIC = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_TEXTS = frozenset(
    {
        "text/plain",
        "text/csv",
        "application/json",
        "application/jsonl",
        "application/x-ndjson",
        "application/x-jsonlines",
    }
)


def check_url(url: str) -> str:
    """Raises ValueError, whose message does not repeat the address."""
    Receiver.parse(url)
    return url


SourceUrl = Annotated[
    str,
    Field(min_length=1, max_length=MAX_URL_LENGTH, json_schema_extra={"pattern": r"^https?://[!-~]+$"}),
    AfterValidator(check_url),
]


def accepts_type(media_type: str) -> bool:
    """By what the server states; what a file is, its bytes decide later."""
    return media_type.startswith("image/") or media_type in {*_SUFFIX_OF, *_UNSPECIFIC, *_TEXTS}


def name_sources(urls: Sequence[str]) -> list[str]:
    """A file's name for each address: the last part of its path, with a number where it is taken."""
    taken: set[str] = set()
    names = []
    for url in urls:
        name = find_free_name(_name(url), taken)
        taken.add(fold(name))
        names.append(name)
    return names


def name_by_type(name: str, media_type: str) -> str:
    """With an archive's suffix, if it lacks one: archives are recognised by their names."""
    suffix = _SUFFIX_OF.get(media_type, "")
    return name if is_archive_name(name) else f"{name}{suffix}"


def _name(url: str) -> str:
    last = unquote(urlsplit(url).path.rpartition("/")[2], errors="replace")
    name = re.sub(r"[\x00-\x1f\x7f/\\\\:]+", "-", last).strip(" .")
    if not name:
        return "image"
    suffix = next((each for each in ARCHIVE_SUFFIXES if name.lower().endswith(each)), "")
    stem = name[: len(name) - len(suffix)] if suffix else name
    return _shorten(stem) + name[len(stem) :]


def _shorten(name: str) -> str:
    """Keeps a short suffix such as ``.jpeg``."""
    stem, dot, suffix = name.rpartition(".")
    if len(name) <= _MAX_NAME_CHARS:
        return name
    return f"{stem[:_MAX_NAME_CHARS]}{dot}{suffix}" if dot and len(suffix) <= 10 else name[:_MAX_NAME_CHARS]
