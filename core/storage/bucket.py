"""Prepares a bucket as the store: ``python -m core.storage.bucket s3://bucket --endpoint-url URL``.

Creates it unless it exists, and makes it remove the parts of incomplete uploads. Safe to repeat; the operator's own
rules stay.
"""

import argparse
import logging
from typing import Any

import boto3
from botocore.exceptions import ClientError

from core.storage.s3 import open_client, split_location
from core.storage.s3_errors import translated

ABANDONED_UPLOAD_DAYS = 1
"""Longer than any of our uploads takes."""

_RULE = {
    "ID": "atelier-abandoned-uploads",
    "Status": "Enabled",
    "Filter": {},  # everything; not {"Prefix": ""}, since stores differ in how they read an empty prefix
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": ABANDONED_UPLOAD_DAYS},
}

log = logging.getLogger("atelier.storage")


def prepare_bucket(client: Any, bucket: str) -> None:
    """Raises StorageError if the bucket does not exist and cannot be created."""
    with translated(bucket):
        if not _exists(client, bucket):
            _create(client, bucket)
            log.info("created the bucket %s", bucket)
    try:
        _remove_abandoned_uploads(client, bucket)
    except ClientError as error:
        # For tidiness only: not every store supports it, and not every key may set it.
        log.warning("parts of incomplete uploads will stay in %s: %s", bucket, error)


def _exists(client: Any, bucket: str) -> bool:
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    return True


def _create(client: Any, bucket: str) -> None:
    region = client.meta.region_name
    # The one region that must not be named (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html).
    where = {} if region in (None, "us-east-1") else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    client.create_bucket(Bucket=bucket, **where)


def _remove_abandoned_uploads(client: Any, bucket: str) -> None:
    rules = _find_rules(client, bucket)
    if not any("AbortIncompleteMultipartUpload" in rule for rule in rules):
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [*rules, _RULE]})


def _find_rules(client: Any, bucket: str) -> list[dict[str, Any]]:
    try:
        return list(client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"])
    except ClientError as error:
        # By the status: Garage answers with no body, hence without the code NoSuchLifecycleConfiguration.
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return []
        raise


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare a bucket as Atelier's store.")
    parser.add_argument("location", help="s3://bucket, as in ATELIER_STORAGE")
    parser.add_argument("--endpoint-url", help="as in S3_ENDPOINT_URL; AWS without it")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    bucket, _ = split_location(arguments.location)
    prepare_bucket(open_client(boto3.session.Session(), arguments.endpoint_url or None), bucket)


if __name__ == "__main__":
    main()
