"""Errors that no endpoint raises itself: unknown routes, slow bodies, faults of the service, storage that fails."""

import logging
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.middleware import bodies
from core.storage import StorageFull, StorageUnavailable
from tests.app.conftest import LiveApi
from tests.app.factory import Worker, draw_png, submit
from tests.app.test_jobs import refuse


def test_unknown_routes_and_methods(api: LiveApi) -> None:
    problem = refuse(api.client.get("/nowhere"), 404, "not-found")
    assert "/openapi.json" in problem["detail"]
    answer = api.client.patch("/jobs")
    problem = refuse(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"
    assert "PATCH" in problem["detail"]


def test_a_misspelt_field_gets_a_suggestion(api: LiveApi) -> None:
    """By the fields of that body, and of no other."""
    for method, path, slug, name, hint in (
        ("POST", "/jobs", "invalid-spec", "modle", "; did you mean model?"),
        ("POST", "/jobs", "invalid-spec", "step", "; did you mean steps?"),
        ("PATCH", "/adapters/ad_1", "invalid-request", "tag", ""),
    ):
        problem = refuse(api.client.request(method, path, json={name: 1}), 422, slug)
        assert problem["errors"][f"/{name}"] == [f"there is no such field{hint}"]


def test_a_parameter_that_there_is_not_is_refused(api: LiveApi) -> None:
    body = {"model": "tiny", "dataset": "ds_1"}
    problem = refuse(api.client.post("/jobs", params={"dryrun": True}, json=body), 422, "invalid-request")
    assert problem["errors"] == {"/query/dryrun": ["there is no such parameter; did you mean dry_run?"]}
    problem = refuse(api.client.get("/jobs", params={"limit": 1, "a/b": 1, "sort": "name"}), 422, "invalid-request")
    assert list(problem["errors"]) == ["/query/a~1b", "/query/sort"]
    problem = refuse(api.client.put("/datasets/ds_1/files/a.png?overwrte=1", content=b"x"), 422, "invalid-request")
    assert list(problem["errors"]) == ["/query/overwrte"]
    for path in ("/jobs?limit=1", "/healthz?probe=1", "/ui/login?utm_source=mail"):
        assert api.client.get(path).status_code == 200


def test_faults_are_said_in_words(api: LiveApi) -> None:
    """Not in those of Python and of regular expressions, and each once."""
    body = {"model": "tiny", "prompts": [""]}
    problem = refuse(api.client.post("/generations", json=body), 422, "invalid-request")
    assert problem["errors"] == {"/prompts/0": ["string should have at least 1 character"]}
    for change, pointer, message in (
        ({"prompts": []}, "/prompts", "should have at least 1 item"),
        ({"prompts": "x"}, "/prompts", "should be a list"),
        ({"prompts": ["x"] * 17}, "/prompts", "should have at most 16 items"),
    ):
        problem = refuse(api.client.post("/generations", json={**body, **change}), 422, "invalid-request")
        assert problem["errors"] == {pointer: [message]}
    for query, pointer, message in (
        ("/jobs?text=%00", "/query/text", "must be one line, without control characters"),
        ("/jobs?after=", "/query/after", "is not an id of this list: send the page's last_id"),
        ("/datasets?after=job_1", "/query/after", "is not an id of this list: send the page's last_id"),
    ):
        problem = refuse(api.client.get(query), 422, "invalid-request")
        assert problem["errors"] == {pointer: [message]} and message in problem["detail"]


def test_a_fault_of_the_service_tells_nothing_but_its_number(
    api: LiveApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr("core.db.jobs.list_jobs", fail)
    with caplog.at_level(logging.ERROR):
        answer = api.client.get("/jobs")
    problem = refuse(answer, 500, "internal")
    assert "swordfish" not in answer.text
    assert "Runtime" not in answer.text
    number = problem["detail"].rstrip(".").rpartition(" ")[2]
    assert number in caplog.text
    assert "swordfish" in caplog.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("error", [StorageUnavailable("secret-bucket"), StorageFull("secret-bucket")])
def test_storage_that_fails_is_a_503_and_keeps_nothing(
    own_api: LiveApi, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    job = submit(own_api)
    Worker(own_api, job["id"]).succeed()
    monkeypatch.setattr(type(own_api.services.storage), "put", fail)
    monkeypatch.setattr(type(own_api.services.storage), "stat", fail)
    for _ in range(3):
        answer = own_api.client.post("/datasets", files=[("files", ("a.png", draw_png() + bytes(10**6)))])
        refuse(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "5"
        assert "secret-bucket" not in answer.text
    refuse(own_api.client.get(f"/jobs/{job['id']}/adapter"), 503, "unavailable")
    assert len(own_api.client.get("/datasets").json()["data"]) == 1


def test_storage_that_fails_does_not_keep_a_job_from_being_deleted(
    own_api: LiveApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> int:
        raise StorageUnavailable("away")

    job = submit(own_api)
    own_api.client.post(f"/jobs/{job['id']}/cancel")
    monkeypatch.setattr(type(own_api.services.storage), "delete_prefix", fail)
    assert own_api.client.delete(f"/jobs/{job['id']}").status_code == 204


def test_a_body_that_does_not_come_is_given_up(start_api: Callable[..., LiveApi]) -> None:
    api = start_api(body_seconds=0.3)
    address = urlsplit(api.url)
    for path, content_type in (("/jobs", "application/json"), ("/datasets", "multipart/form-data; boundary=x")):
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.api_key}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: 1000\r\n\r\n"
        )
        with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as connection:
            connection.sendall(head.encode() + b"--x\r\n")
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 408"), answer


def test_a_body_that_takes_for_ever_is_given_up(api: LiveApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte in time, the whole never."""
    monkeypatch.setattr(bodies, "JSON_SECONDS", 0.5)
    address = urlsplit(api.url)
    head = (
        f"POST /jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.api_key}\r\n"
        "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    )
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as connection:
        connection.sendall(head.encode())
        connection.settimeout(0.05)
        answer, deadline = b"", time.monotonic() + 30
        while not answer and time.monotonic() < deadline:
            connection.sendall(b" ")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408"), answer
