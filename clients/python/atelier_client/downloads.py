"""Downloads. A file is written to its target complete and verified, or not at all."""

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import httpx

from atelier_client.errors import DownloadDamaged, InputError

_EVENT_FILE = re.compile(r"events\.out\.tfevents\.[\w.]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def save(response: httpx.Response, target: Path) -> str:
    """Streams an open response into ``target``; returns the bytes' sha256.

    Raises DownloadDamaged if the sha256 differs from the ETag's, InputError if the target cannot be written.
    """
    digest = hashlib.sha256()
    with replace_whole(target) as file:
        for block in response.iter_bytes():
            digest.update(block)
            file.write(block)
        expected = announced_sha256(response)
        if expected is not None and digest.hexdigest() != expected:
            raise DownloadDamaged(f"{target.name} arrived damaged, and nothing was kept of it. Download it again.")
    return digest.hexdigest()


def announced_sha256(response: httpx.Response) -> str | None:
    """The first ETag that is a sha256, of a redirect or of the final answer. Object stores use other ETags."""
    for answer in (*response.history, response):
        tag = answer.headers.get("etag", "").removeprefix("W/").strip('"').lower()
        if _SHA256.fullmatch(tag):
            return str(tag)
    return None


def announced_name(response: httpx.Response) -> str | None:
    """The name that the service gives an event file; None for any other."""
    found = _EVENT_FILE.search(response.headers.get("content-disposition", ""))
    return found and found[0]


@contextlib.contextmanager
def replace_whole(target: Path) -> Iterator[BinaryIO]:
    """A temporary file beside the target. It replaces the target at the end, and is deleted after an error."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror or error}. Name another place.") from error
    finally:
        with contextlib.suppress(OSError):  # it is gone already, or its folder is not a folder
            temporary.unlink()
