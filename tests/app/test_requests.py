"""Media types, content codings and names of files as clients really send and read them."""

import gzip
import json
from urllib.parse import unquote

import pytest

from core.storage.disposition import attachment, make_filename
from tests.app.conftest import LiveApi
from tests.app.factory import Worker, add_dataset, add_model, draw_png, submit
from tests.app.test_jobs import refuse


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8", "APPLICATION/JSON;charset=UTF-8"],
)
def test_json_by_any_spelling_of_its_media_type(api: LiveApi, media_type: str) -> None:
    headers = {"Content-Type": media_type}
    assert api.client.post("/datasets", content=b'{"name": "a"}', headers=headers).status_code == 201
    body = json.dumps({"model": add_model(api), "dataset": add_dataset(api), "trigger": "toy"})
    assert api.client.post("/jobs?dry_run=true", content=body, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "media_type",
    ["multipart/form-data; boundary=x", "Multipart/Form-Data; Boundary=x", "MULTIPART/FORM-DATA;boundary=x"],
)
def test_forms_by_any_spelling_of_their_media_type(api: LiveApi, media_type: str) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body = part + draw_png() + b"\r\n--x--\r\n"
    answer = api.client.post("/datasets", content=body, headers={"Content-Type": media_type})
    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize("media_type", ["application/jsonp", "multipart/form-data-x", "text/plain", ""])
def test_other_media_types_are_415(api: LiveApi, media_type: str) -> None:
    answer = api.client.post("/datasets", content=b'{"name": "a"}', headers={"Content-Type": media_type})
    refuse(answer, 415, "unsupported-media")


@pytest.mark.parametrize("asked", ["text/event-stream", "Text/Event-Stream", "text/event-stream;charset=utf-8"])
def test_the_event_stream_by_any_spelling(api: LiveApi, asked: str) -> None:
    job = submit(api)
    headed = api.client.head(f"/jobs/{job['id']}/events", headers={"Accept": asked})
    assert headed.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("asked", ["text/event-stream;q=0, */*", "application/json", "*/*", "x-text/event-stream"])
def test_the_list_of_events_otherwise(api: LiveApi, asked: str) -> None:
    job = submit(api)
    answer = api.client.get(f"/jobs/{job['id']}/events", headers={"Accept": asked})
    assert answer.json()["object"] == "list"


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip", "x-unknown"])
def test_a_compressed_body_is_415_and_says_why(api: LiveApi, coding: str) -> None:
    dataset, packed = add_dataset(api), gzip.compress(json.dumps({"model": "toy"}).encode())
    headers = {"Content-Encoding": coding, "Content-Type": "application/json"}
    for method, path in (("POST", "/jobs"), ("POST", "/datasets"), ("PUT", f"/datasets/{dataset}/files/a.png")):
        answer = api.client.request(method, path, content=packed, headers=headers)
        problem = refuse(answer, 415, "unsupported-media")
        assert "Content-Encoding" in problem["detail"] and "uncompressed" in problem["detail"]
        assert answer.headers["accept-encoding"] == "identity"


def test_identity_is_no_coding(api: LiveApi) -> None:
    headers = {"Content-Encoding": "identity", "Content-Type": "application/json"}
    assert api.client.post("/datasets", content=b'{"name": "a"}', headers=headers).status_code == 201


@pytest.mark.parametrize(
    ("name", "plain", "whole"),
    [
        ("blip", "blip.safetensors", None),
        ("my toy", "my-toy.safetensors", "my toy.safetensors"),
        ("Käthe's toy / v1", "Kathe-s-toy-v1.safetensors", "Käthe's toy - v1.safetensors"),
        ("ぶりっぷ", "file.safetensors", "ぶりっぷ.safetensors"),
        ('"; filename="evil.exe', "filename-evil.exe.safetensors", "; filename=-evil.exe.safetensors"),
        ("../../etc/passwd", "etc-passwd.safetensors", None),
        ("a\u202egnp.exe", "agnp.exe.safetensors", None),
        ("100% 🐕", "100.safetensors", "100% 🐕.safetensors"),
        ("...", "adapter.safetensors", None),
    ],
)
def test_the_name_of_a_download(api: LiveApi, name: str, plain: str, whole: str | None) -> None:
    """RFC 6266, 4.3: `filename` in ASCII for old clients, and `filename*` where that is not all of it."""
    header = attachment(make_filename(name, ".safetensors"))
    assert f'filename="{plain}"' in header
    assert header.isascii()
    if whole is not None:
        assert unquote(header.rpartition("filename*=UTF-8''")[2]) == whole
    if name.isprintable():
        job = submit(api, name=name)
        Worker(api, job["id"]).succeed()
        assert api.client.head(f"/jobs/{job['id']}/adapter").headers["content-disposition"] == header


def test_a_long_name_stays_a_name_that_file_systems_take() -> None:
    assert len(make_filename("ü" * 500, ".safetensors").encode()) <= 255
