import socket
import subprocess
import sys
import uuid

import boto3
import pytest

from core.storage import StorageUnavailable
from core.storage.bucket import prepare_bucket
from core.storage.s3 import open_client
from tests.core.storage.scripted import ScriptedStore


def rules(client, bucket: str) -> list[dict]:
    return client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]


def test_it_makes_the_bucket_and_has_it_tidied(s3_client) -> None:
    name = f"atelier-{uuid.uuid4().hex}"
    prepare_bucket(s3_client, name)
    prepare_bucket(s3_client, name)

    (rule,) = rules(s3_client, name)
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert "Expiration" not in rule
    assert not rule["Filter"].get("Prefix")


def test_what_is_in_the_bucket_and_the_operators_rules_stay(s3_client, bucket: str) -> None:
    s3_client.put_object(Bucket=bucket, Key="a", Body=b"x")
    theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 7}}
    s3_client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [theirs]})

    prepare_bucket(s3_client, bucket)

    assert [rule["ID"] for rule in rules(s3_client, bucket)] == ["theirs", "atelier-abandoned-uploads"]
    assert rules(s3_client, bucket)[0]["Expiration"]["Days"] == 7
    assert s3_client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"x"


def test_a_store_that_does_not_answer_is_an_error(aws_environment: None) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        client = open_client(boto3.session.Session(), endpoint, total_max_attempts=1)
        with pytest.raises(StorageUnavailable):
            prepare_bucket(client, "a-bucket")


def test_no_rules_yet_as_garage_says_it(scripted: ScriptedStore) -> None:
    scripted.answers = [(200, ""), (404, ""), (200, "")]
    prepare_bucket(open_client(boto3.session.Session(), scripted.url), "a-bucket")
    assert scripted.answers == []


def test_a_store_without_such_rules_will_do(scripted: ScriptedStore, caplog: pytest.LogCaptureFixture) -> None:
    scripted.answers = [(200, ""), (501, "NotImplemented")]
    prepare_bucket(open_client(boto3.session.Session(), scripted.url), "a-bucket")
    assert "will stay in a-bucket" in caplog.text


def test_it_is_a_program(s3_client, s3_endpoint: str) -> None:
    name = f"atelier-{uuid.uuid4().hex}"
    command = [sys.executable, "-m", "core.storage.bucket", f"s3://{name}/prefix", "--endpoint-url", s3_endpoint]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == f"created the bucket {name}\n"
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""
    assert len(rules(s3_client, name)) == 1
