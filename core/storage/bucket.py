"""Make a bucket ready to be the store: ``python -m core.storage.bucket s3://bucket --endpoint-url URL``.

Makes it unless it is there, and lets it remove the parts of uploads that were never completed. Safe to repeat;
rules that the operator has set stay.
"""

import argparse
import logging
from typing import Any

import boto3
from botocore.exceptions import ClientError

from core.storage.s3 import open_client, split_location
from core.storage.s3_errors import translated

ABANDONED_UPLOAD_DAYS = 1
"""More than any upload of ours takes."""

_RULE = {
    "ID": "atelier-abandoned-uploads",
    "Status": "Enabled",
    "Filter": {},  # everything; not {"Prefix": ""}, for stores differ in how they read an empty prefix
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": ABANDONED_UPLOAD_DAYS},
}

log = logging.getLogger("atelier.storage")


def prepare_bucket(client: Any, bucket: str) -> None:
    """Raises StorageError when the bucket is not there and cannot be made."""
    with translated(bucket):
        if not _exists(client, bucket):
            _create(client, bucket)
            log.info("made the bucket %s", bucket)
    try:
        _remove_abandoned_uploads(client, bucket)
    except ClientError as error:
        # A matter of tidiness, which not every store knows and not every key may set.
        log.warning("parts of uploads that never completed will stay in %s: %s", bucket, error)


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
    parser = argparse.ArgumentParser(description="Make a bucket ready to be Atelier's store.")
    parser.add_argument("location", help="s3://bucket, as in ATELIER_STORAGE")
    parser.add_argument("--endpoint-url", help="as in S3_ENDPOINT_URL; AWS without it")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    bucket, _ = split_location(arguments.location)
    prepare_bucket(open_client(boto3.session.Session(), arguments.endpoint_url or None), bucket)


if __name__ == "__main__":
    main()
