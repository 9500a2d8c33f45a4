"""Objects in an S3 bucket, on AWS or any store that speaks its protocol, by boto3.

Up to 8 MiB an object is one PUT; above that a multipart upload, which becomes visible only when it is completed and
is aborted when anything fails. A killed process may leave an invisible upload, which the bucket must remove:
``core.storage.bucket`` gives it a rule for that.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import boto3
from botocore.config import Config

from core.storage.disposition import attachment
from core.storage.keys import check_key, check_prefix, is_key
from core.storage.protocol import (
    DEFAULT_CONTENT_TYPE,
    MAX_DOWNLOAD_URL_SECONDS,
    MAX_UPLOAD_URL_SECONDS,
    InvalidKey,
    ObjectNotFound,
    ObjectStat,
    PresignedUpload,
    StorageError,
    StorageUnavailable,
    StoredObject,
)
from core.storage.s3_errors import error_kind, translated
from core.storage.streams import HashingReader, download, forward_only

PART_BYTES = 8 << 20
"""S3 takes 10,000 parts, so an object may have 78 GiB."""
MAX_PRESIGNED_BYTES = 5 << 30
"""S3's limit for one PUT."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class S3Storage:
    """Objects of ``bucket`` whose names begin with ``prefix`` (empty, or ending in a slash).

    Credentials and region come from boto3's usual places. ``public_endpoint_url`` signs the addresses for clients; with
    a custom endpoint and no public one there are none, since clients may not reach the service's endpoint.
    """

    def __init__(
        self, bucket: str, prefix: str = "", *, endpoint_url: str | None = None, public_endpoint_url: str | None = None
    ) -> None:
        self._bucket, self._prefix = bucket, prefix
        # A session of its own: boto3's default one is not safe to share between threads.
        session = boto3.session.Session()
        self._client = open_client(session, endpoint_url)
        self._impatient = open_client(session, endpoint_url, connect_timeout=2, read_timeout=3, total_max_attempts=1)
        reachable = public_endpoint_url is not None or endpoint_url is None
        self._public = open_client(session, public_endpoint_url) if reachable else None

    def put(self, key: str, source: BinaryIO | bytes, *, content_type: str = DEFAULT_CONTENT_TYPE) -> StoredObject:
        target = self._target(key)
        reader = HashingReader(source)
        first = reader.read(PART_BYTES)
        if len(first) == PART_BYTES:
            self._put_parts(target, first, reader, content_type)
        else:
            with translated(key):
                self._client.put_object(
                    **target, Body=first, ContentType=content_type, Metadata={"sha256": reader.sha256}
                )
        return reader.stored_as(key)

    def put_file(self, key: str, path: Path, *, content_type: str = DEFAULT_CONTENT_TYPE) -> StoredObject:
        with path.open("rb") as file:
            return self.put(key, file, content_type=content_type)

    @contextmanager
    def open(self, key: str, *, start: int = 0) -> Iterator[BinaryIO]:
        part = {"Range": f"bytes={start}-"} if start else {}
        with translated(key):
            body = self._client.get_object(**self._target(key), **part)["Body"]
        try:
            with forward_only(body.read, partial(translated, key)) as stream:
                yield stream
        finally:
            body.close()

    def read(self, key: str) -> bytes:
        with self.open(key) as stream:
            return stream.read()

    def fetch(self, key: str, path: Path) -> StoredObject:
        return download(self, key, path)

    def stat(self, key: str) -> ObjectStat | None:
        try:
            with translated(key):
                head = self._client.head_object(**self._target(key))
        except ObjectNotFound:
            return None
        return ObjectStat(key, head["ContentLength"], head["LastModified"], head["Metadata"].get("sha256"))

    def delete(self, key: str) -> None:
        with suppress(ObjectNotFound), translated(key):
            self._client.delete_object(**self._target(key))

    def delete_prefix(self, prefix: str) -> int:
        if not prefix:
            raise InvalidKey("an empty prefix would delete the whole store")
        return sum(self._delete_page(page) for page in self._pages(prefix))

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        check_prefix(prefix)
        return self._list(prefix)

    def download_url(self, key: str, *, filename: str, content_type: str, expires_seconds: int) -> str | None:
        target = self._target(key)
        _check_expiry(expires_seconds, MAX_DOWNLOAD_URL_SECONDS)
        if self._public is None:
            return None
        params = {
            **target,
            "ResponseContentType": content_type,
            "ResponseContentDisposition": attachment(filename),
        }
        return str(self._public.generate_presigned_url("get_object", Params=params, ExpiresIn=expires_seconds))

    def upload_url(
        self, key: str, *, size: int, sha256_base64: str, content_type: str, expires_seconds: int
    ) -> PresignedUpload | None:
        target = self._target(key)
        _check_expiry(expires_seconds, MAX_UPLOAD_URL_SECONDS)
        digest = _digest(sha256_base64)
        if not 0 <= size <= MAX_PRESIGNED_BYTES:
            raise ValueError(f"one PUT takes 0 to {MAX_PRESIGNED_BYTES} bytes, not {size}")
        if self._public is None:
            return None
        params = {
            **target,
            "ContentLength": size,
            "ContentType": content_type,
            "ChecksumSHA256": sha256_base64,
            "Metadata": {"sha256": digest.hex()},
        }
        expires_at = datetime.now(UTC) + timedelta(seconds=expires_seconds)
        url = self._public.generate_presigned_url("put_object", Params=params, ExpiresIn=expires_seconds)
        headers = {
            "Content-Length": str(size),
            "Content-Type": content_type,
            "x-amz-checksum-sha256": sha256_base64,
            "x-amz-meta-sha256": digest.hex(),
        }
        return PresignedUpload("PUT", str(url), headers, expires_at)

    def check(self) -> None:
        try:
            with translated(self._bucket):
                self._impatient.head_bucket(Bucket=self._bucket)
        except StorageError as error:
            raise StorageUnavailable(f"the bucket {self._bucket} cannot be used: {error}") from error

    def _target(self, key: str) -> dict[str, str]:
        check_key(key)
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{key}"}

    def _put_parts(self, target: dict[str, str], first: bytes, reader: HashingReader, content_type: str) -> None:
        """Upload ``first`` and the reader's rest. The hash is recorded if the source allows reading ahead."""
        key = target["Key"]
        ahead = reader.hash_ahead()
        metadata = {"sha256": ahead} if ahead else {}
        with translated(key):
            started = self._client.create_multipart_upload(**target, ContentType=content_type, Metadata=metadata)
        upload = {**target, "UploadId": started["UploadId"]}
        try:
            sent = self._send_parts(upload, chain([first], iter(partial(reader.read, PART_BYTES), b"")))
            if ahead not in (None, reader.sha256):
                raise StorageError(f"{key}: the source changed while it was read")
            with translated(key):
                self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": sent})
        except BaseException:
            with suppress(StorageError), translated(key):
                self._client.abort_multipart_upload(**upload)
            raise

    def _send_parts(self, upload: dict[str, str], parts: Iterator[bytes]) -> Sequence[dict[str, Any]]:
        sent = []
        for number, part in enumerate(parts, start=1):
            with translated(upload["Key"]):
                answer = self._client.upload_part(**upload, PartNumber=number, Body=part)
            sent.append({"PartNumber": number, "ETag": answer["ETag"]})
        return sent

    def _pages(self, prefix: str) -> Iterator[Sequence[dict[str, Any]]]:
        """The bucket's entries in a folder, at most 1,000 at a time."""
        folder = "".join(f"{segment}/" for segment in check_prefix(prefix))
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._prefix}{folder}"
        )
        with translated(prefix):
            for page in pages:
                yield page.get("Contents", [])

    def _list(self, prefix: str) -> Iterator[ObjectStat]:
        for entry in chain.from_iterable(self._pages(prefix)):
            key = entry["Key"].removeprefix(self._prefix)
            # Other tools create names that the service never makes, such as "folder/".
            if is_key(key):
                yield ObjectStat(key, entry["Size"], entry["LastModified"])

    def _delete_page(self, page: Sequence[dict[str, Any]]) -> int:
        if not page:
            return 0
        objects = [{"Key": entry["Key"]} for entry in page]
        with translated(self._prefix):
            answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
        for failure in answer.get("Errors", []):
            raise error_kind(failure.get("Code", ""), 0)(f"{failure.get('Key')}: {failure.get('Message')}")
        return len(objects)


def split_location(location: str) -> tuple[str, str]:
    """The bucket and the prefix (empty, or ending in a slash) of ``s3://bucket/prefix``. Raises ValueError."""
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ValueError(f"not the name of an S3 bucket: {bucket!r}")
    return bucket, "".join(f"{segment}/" for segment in check_prefix(prefix))


def open_client(
    session: boto3.session.Session,
    endpoint_url: str | None,
    *,
    connect_timeout: float = 5,
    read_timeout: float = 30,
    total_max_attempts: int = 4,
) -> Any:
    config = Config(
        signature_version="s3v4",
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": total_max_attempts},
        tcp_keepalive=True,
        max_pool_connections=32,
        # Buckets as host names need DNS that a self-hosted store rarely has.
        s3={"addressing_style": "path" if endpoint_url else "auto"},
        # boto3's default of trailing CRCs in chunked bodies is refused by many stores that are not AWS.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return session.client("s3", endpoint_url=endpoint_url, config=config)


def _check_expiry(seconds: int, most: int) -> None:
    if not 1 <= seconds <= most:
        raise ValueError(f"an address can be valid for 1 to {most} seconds, not {seconds}")


def _digest(sha256_base64: str) -> bytes:
    try:
        digest = base64.b64decode(sha256_base64, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 32:
        raise ValueError("not the base64 of a SHA-256")
    return digest
