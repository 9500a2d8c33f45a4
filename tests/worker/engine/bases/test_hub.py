"""What is said of a repository that could not be fetched: by what really happened, and without the libraries' words."""

import errno
import re

import httpx2
import pytest
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from worker.engine.bases.hub import explain

INTERNALS = re.compile(r"Error|Traceback|local_files_only|stacktrace|Errno|https?://|None|\{|'")
"""What nobody who reads a message can do anything with."""


def answered(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    request = httpx2.Request("GET", "http://hub.invalid/api/models/x/y")
    return kind(f"{status} Client Error.", response=httpx2.Response(status, request=request))


def wrapped(cause: BaseException) -> OSError:
    """As diffusers raises it: with words about its cache, from what happened."""
    error = OSError(
        "Cannot load model x/y: the model is not fully cached locally (pass 'local_files_only=False' as input) and an "
        "error occurred while trying to fetch metadata from the Hub. Please check out the root cause in the stacktrace."
    )
    error.__cause__ = cause
    return error


CASES: list[tuple[BaseException, str]] = [
    (httpx2.ConnectError("[Errno -2] Name or service not known"), "The Hub could not be reached"),
    (httpx2.ReadTimeout("timed out"), "The Hub could not be reached"),
    (LocalEntryNotFoundError("Cannot find an appropriate snapshot"), "The Hub could not be reached"),
    (answered(GatedRepoError, 401), "x/y is gated: accept its terms"),
    (answered(RepositoryNotFoundError, 404), "The Hub has no repository x/y, or it is private"),
    (answered(DisabledRepoError, 403), "x/y was disabled"),
    (answered(HfHubHTTPError, 401), "does not let this service read x/y"),
    (answered(HfHubHTTPError, 429), "limits requests"),
    (answered(HfHubHTTPError, 503), "The Hub answered 503"),
    (answered(RemoteEntryNotFoundError, 404), "lacks a file that a model needs"),
    (HFValidationError("Repo id must be in the form"), "write it as owner/name"),
    (OSError(errno.ENOSPC, "No space left on device"), "the disk of the models directory is full"),
    (OSError("Could not find the necessary `safetensors` weights in {'unet/x.bin'}"), "has no usable weights"),
]


@pytest.mark.parametrize(("cause", "advice"), CASES, ids=[advice for _, advice in CASES])
def test_a_failure_says_what_to_do(cause: BaseException, advice: str) -> None:
    for error in (cause, wrapped(cause)):
        message = explain("x/y", error)
        assert advice in message
        assert not INTERNALS.search(message.replace("diffusers' layout", "")), message
        assert message.endswith(".")


def test_that_a_file_is_not_in_the_cache_does_not_hide_why() -> None:
    missing = LocalEntryNotFoundError("not cached")
    missing.__cause__ = answered(GatedRepoError, 403)
    assert "is gated" in explain("x/y", wrapped(missing))
