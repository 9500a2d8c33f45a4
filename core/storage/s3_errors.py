"""Maps the failures of an S3 request to StorageErrors."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError

from core.storage.protocol import ObjectNotFound, StorageError, StorageFull, StorageUnavailable

# HEAD has no body, hence no code: botocore then gives the status in its place.
_NOT_FOUND = {"NoSuchKey", "404", "NotFound"}
_FULL = {"InsufficientStorage", "InsufficientCapacity", "QuotaExceeded", "XMinioStorageFull", "507"}
_BUSY = {"SlowDown", "RequestTimeout", "RequestThrottled", "Throttling", "ThrottlingException", "TooManyRequests"}


def error_kind(code: str, status: int) -> type[StorageError]:
    """The StorageError for an error code and an HTTP status of S3."""
    if code in _NOT_FOUND:
        return ObjectNotFound
    if code in _FULL or status == 507:
        return StorageFull
    # NoSuchUpload: someone tidied up a multipart upload under way; a new put starts a new one.
    if code in _BUSY or code == "NoSuchUpload" or status == 429 or status >= 500:
        return StorageUnavailable
    return StorageError


@contextmanager
def translated(key: str) -> Iterator[None]:
    """Render botocore's exceptions as StorageErrors."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        raise error_kind(code, status)(f"{key}: {error}") from error
    except (HTTPClientError, BotoConnectionError, IncompleteReadError) as error:
        raise StorageUnavailable(f"{key}: {error}") from error
    except BotoCoreError as error:
        raise StorageError(f"{key}: {error}") from error
