"""Names of uploaded files: which kind each implies, and which are refused. They never enter a storage key."""

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Literal

from core.domain.dataset import (
    ARCHIVE_SUFFIXES,
    CAPTION_SUFFIXES,
    IMAGE_SUFFIXES,
    is_archive_name,
    is_caption_name,
    is_image_name,
)
from core.domain.errors import InvalidRequest, UnsupportedMedia
from core.domain.filenames import FINDER_ICON, fold
from core.domain.metadata import METADATA_NAMES, is_metadata_name

Kind = Literal["image", "archive", "caption", "other"]

MAX_NAME_CHARS = 255
TAKEN = (
    f"images ({', '.join(sorted(IMAGE_SUFFIXES))}), captions ({', '.join(CAPTION_SUFFIXES)}) and "
    f"{' or '.join(METADATA_NAMES)}"
)
ARCHIVES = ", ".join(ARCHIVE_SUFFIXES)


def kind_of(name: str) -> Kind:
    if is_image_name(name):
        return "image"
    if is_archive_name(name):
        return "archive"
    return "caption" if is_caption_name(name) or is_metadata_name(name) else "other"


def check_name(name: str) -> str:
    """A relative path with forward slashes, as browsers send folders. Raises InvalidRequest."""
    segments = name.split("/")
    bad = (
        len(name) > MAX_NAME_CHARS
        or "\\" in name
        or any(unicodedata.category(char) in {"Cc", "Cs"} for char in _visible(name))
        or any(segment.strip() in {"", ".", ".."} for segment in segments)
    )
    if bad:
        shown = name[:80].encode("unicode_escape").decode()
        raise InvalidRequest(
            f"The file name {shown!r} is invalid: it needs at most {MAX_NAME_CHARS} characters, a relative path "
            "with forward slashes, no '..' and no control characters. Rename the file.",
            {"/files": [f"{shown}: bad name"]},
        )
    return name


def _visible(name: str) -> str:
    """Without the invisible carriage return in the name of macOS's file for a folder's icon."""
    return name.removesuffix("\r") if name.rpartition("/")[2] == FINDER_ICON else name


def check_loose_kind(name: str) -> None:
    """For a single file of an open dataset. Raises UnsupportedMedia."""
    if kind_of(name) == "archive":
        raise UnsupportedMedia(f"{name}: an archive becomes a dataset of its own; send it by POST /datasets.")


def refuse_kind(name: str) -> UnsupportedMedia:
    return UnsupportedMedia(f"{name}: unsupported file type. Send {TAKEN}, or an archive ({ARCHIVES}).")


def may_be_image(name: str) -> bool:
    """Whether the name allows an image: without a suffix, or with one that starts as an image's does, as in
    ``a.jpg_large`` and ``a.jpeg!d``."""
    suffix = PurePosixPath(name).suffix.lower()
    return not suffix or suffix.startswith(tuple(IMAGE_SUFFIXES))


def find_collision(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that differ only in case or Unicode form, and so would be one file on many systems."""
    seen: dict[str, str] = {}
    for name in names:
        folded = fold(name)
        if folded in seen:
            return seen[folded], name
        seen[folded] = name
    return None


def check_apart(names: Iterable[str], others: Iterable[str]) -> None:
    """``names`` may replace files of exactly the same names, but none whose name differs only in case or Unicode form.

    Raises InvalidRequest.
    """
    added = {fold(name): name for name in names}
    for other in others:
        name = added.get(fold(other), other)
        if name != other:
            raise InvalidRequest(
                f"{name} and {other}, which is already in the dataset, are the same name on many systems. Rename one.",
                {"/files": [f"{name} collides with {other}"]},
            )
