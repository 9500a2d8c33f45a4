"""What is served of a picture is its pixels, made anew: nothing that it was besides, and nothing that it said."""

import struct
import threading
from pathlib import Path

import httpx
import pytest

from core.settings import Settings
from tests.app.conftest import LiveApi, workers_url
from tests.fixtures.pictures import png
from tests.hostile.polyglots import CANARY, list_polyglots
from worker.consumer import Consumer
from worker.datasets.sandbox import Sandbox
from worker.datasets.service import Validation

POLYGLOTS = list_polyglots()


def list_chunks(data: bytes) -> set[bytes]:
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    kinds, at = set(), 8
    while at < len(data):
        kinds.add(data[at + 4 : at + 8])
        at += 12 + int(struct.unpack(">L", data[at : at + 4])[0])
    return kinds


def check_clean(data: bytes) -> None:
    assert CANARY not in data
    assert list_chunks(data) == {b"IHDR", b"IDAT", b"IEND"}


def test_nothing_but_pixels_is_kept(sandbox: Sandbox, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for what, (_, data) in POLYGLOTS.items():
        with subtests.test(what):
            (tmp_path / "source").write_bytes(data)
            (tmp_path / "target").unlink(missing_ok=True)
            picture = sandbox.convert(tmp_path / "source", tmp_path / "target")
            assert (picture.width, picture.height) == (64, 64)
            check_clean((tmp_path / "target").read_bytes())


def test_what_is_served_is_clean_and_runs_nowhere(
    api: LiveApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the API's download, and as a picture in the dashboard."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dataset = upload_and_validate(api)
    images = api.client.get(f"/datasets/{dataset}/images?limit=1000").json()["data"]
    assert len(images) == len(POLYGLOTS) + 1
    for image in images:
        answer = api.client.get(image["url"])
        check_clean(answer.content)
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-disposition"].startswith("attachment; ")
        assert "sandbox" in answer.headers["content-security-policy"]
    with httpx.Client(base_url=api.url) as browser:
        logged_in = browser.post("/ui/login", data={"api_key": api.api_key}, headers={"Sec-Fetch-Site": "same-origin"})
        assert logged_in.status_code == 303
        for image in images:
            shown = browser.get(image["url"], headers={"Sec-Fetch-Site": "same-origin"})
            check_clean(shown.content)
            assert (shown.headers["content-type"], shown.headers["x-content-type-options"]) == ("image/png", "nosniff")
            assert "sandbox" in shown.headers["content-security-policy"]


def upload_and_validate(api: LiveApi) -> str:
    """With an honest picture among them."""
    files = [("files", (f"{number}{suffix}", data)) for number, (suffix, data) in enumerate(POLYGLOTS.values())]
    answer = api.client.post("/datasets", files=[*files, ("files", ("good.png", png(1234, 64, 64)))])
    assert answer.status_code == 202, answer.text
    dataset = str(answer.json()["id"])
    settings: Settings = api.settings.model_copy(update={"database_url": workers_url(api)})
    validator = Consumer(Validation, settings, api.sessions, api.storage, threading.Event())
    while api.client.get(f"/datasets/{dataset}").json()["status"] == "validating":
        assert validator.run_next()
    shown = api.client.get(f"/datasets/{dataset}").json()
    assert (shown["status"], shown["report"]["left_out"]) == ("ready", [])
    return dataset
