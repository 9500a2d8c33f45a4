"""What the API says of a set once a worker has looked at it."""

import threading
from pathlib import Path

import pytest

from tests.app.conftest import LiveApi, workers_url
from tests.fixtures.pictures import png
from worker.consumer import Consumer
from worker.datasets.service import Validation


def test_the_api_shows_what_became_of_every_file(api: LiveApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    files = [("...and then.png", png(1)), ("b.png", png(2)), ("b.txt", b"b"), (".DS_Store", b"x"), ("c.png", b"x")]
    answer = api.client.post("/datasets", files=[("files", file) for file in files])
    assert answer.status_code == 202, answer.text
    dataset = answer.json()["id"]
    settings = api.settings.model_copy(update={"database_url": workers_url(api)})
    validator = Consumer(Validation, settings, api.sessions, api.storage, threading.Event())
    while api.client.get(f"/datasets/{dataset}").json()["status"] == "validating":
        assert validator.run_next()
    assert api.client.get(f"/datasets/{dataset}").json()["report"]["files"] == {
        "received": 5, "images": 2, "captions": 1, "masks": 0, "left_out": 1, "litter": 1, "unexamined": 0,
    }  # fmt: skip
