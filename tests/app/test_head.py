"""HEAD wherever GET is: RFC 9110, 9.3.2."""

import re
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.app.conftest import LiveApi
from tests.app.factory import Worker, add_dataset, draw_png, submit
from tests.app.test_jobs import refuse
from tests.fixtures.document import read_document

NOT_COMPARED = {"date", "ratelimit", "transfer-encoding"}
"""The last says how content is sent, and is left out where none is (RFC 9110, 9.3.2)."""


def fields_of(answer: Any) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in NOT_COMPARED}


@pytest.fixture
def paths(api: LiveApi) -> dict[str, str]:
    """Every path of the document that GET takes, filled with what there is: by its template."""
    job = submit(api)
    worker = Worker(api, job["id"])
    worker.train(3)
    worker.checkpoint(2)
    worker.sample(3)
    request = api.client.post(f"/jobs/{job['id']}/samples", json={"prompts": ["a toy"]}).json()["id"]
    worker.draw_requested(request, 3)
    worker.keep_adapter(3)
    worker.succeed()
    api.client.post(f"/jobs/{job['id']}/promote?wait=0", json={"step": 3}).raise_for_status()
    dataset = add_dataset(api, thumbnails=True)
    image = api.client.get(f"/datasets/{dataset}/images").json()["data"][0]["sha256"]
    adapter = api.client.get("/adapters").json()["data"][0]["id"]
    known = {"job_id": job["id"], "dataset_id": dataset, "model_id": job["model"], "adapter_id": adapter}
    known |= {"sha256": image, "index": "0", "request_id": request}
    api.client.patch(f"/adapters/{adapter}", json={"cover": {"step": 3}}).raise_for_status()
    known["cover_id"] = api.client.put(f"/adapters/{adapter}/cover", content=draw_png()).json()["id"]
    published = api.client.post(f"/adapters/{adapter}/publish", json={"repo_id": "studio/toy", "token": "hf_of_a_test"})
    known["publication_id"] = published.json()["id"]

    def fill(path: str) -> str:
        step = "2" if "checkpoints" in path else "3"
        return re.sub(r"{(\w+)}", lambda found: str({**known, "step": step}.get(found[1], "none")), path)

    return {path: fill(path) for path, methods in read_document()["paths"].items() if "get" in methods}


def test_head_answers_as_get_does_without_content(api: LiveApi, paths: dict[str, str]) -> None:
    for template, path in paths.items():
        got, headed = api.client.get(path), api.client.head(path)
        assert headed.status_code == got.status_code, template
        assert headed.content == b"", template
        assert fields_of(headed) == fields_of(got), template


def test_most_of_those_are_there(api: LiveApi, paths: dict[str, str]) -> None:
    statuses = [api.client.head(path).status_code for path in paths.values()]
    assert statuses.count(200) >= len(statuses) - 10, "generations, captions and checks are not; others need other keys"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json", "/ui/login", "/", "/ui"])
def test_open_paths_and_pages(api: LiveApi, path: str) -> None:
    got, headed = (api.client.request(method, path) for method in ("GET", "HEAD"))
    assert (headed.status_code, headed.content) == (got.status_code, b"")
    assert headed.headers.get("content-length") == got.headers.get("content-length")


def test_head_of_what_is_not_there_and_without_a_key(api: LiveApi) -> None:
    assert api.client.head("/jobs/job_none").status_code == 404
    assert api.client.head("/jobs", headers={"Authorization": "Bearer atl_none"}).status_code == 401


def test_head_where_there_is_no_get(api: LiveApi) -> None:
    answer = api.client.head("/jobs/job_none/cancel")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    problem = refuse(api.client.put("/jobs"), 405, "method-not-allowed")
    assert "GET, HEAD, POST" in problem["detail"]


def test_head_of_an_event_stream_ends_at_once(api: LiveApi) -> None:
    job = submit(api)
    answer = api.client.head(f"/jobs/{job['id']}/events", headers={"Accept": "text/event-stream"}, timeout=5)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_nothing_follows_the_header_on_the_wire(api: LiveApi) -> None:
    """A client that keeps its connection would take content for the next answer."""
    place = urlsplit(api.url)
    request = f"HEAD %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.api_key}\r\n%s\r\n"
    with socket.create_connection((str(place.hostname), int(place.port or 0)), timeout=10) as connection:
        connection.sendall((request % ("/jobs", "") + request % ("/none", "Connection: close\r\n")).encode())
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    first, second, rest = received.split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200") and second.startswith(b"HTTP/1.1 404")
    assert rest == b""
