"""Uploads archives, and has them validated by the worker's own code."""

import io
import threading
import zipfile

from PIL import Image

from tests.app.conftest import LiveApi, workers_url
from tests.fixtures.pictures import png
from worker.consumer import Consumer
from worker.datasets.service import Validation


class Uploader:
    """Uploads files in an archive, or an archive, and has them validated."""

    def __init__(self, api: LiveApi) -> None:
        self._api = api
        settings = api.settings.model_copy(update={"database_url": workers_url(api)})
        self.validator = Consumer(Validation, settings, api.sessions, api.storage, threading.Event())

    def __call__(self, files: dict[str, bytes] | bytes) -> str:
        content = files if isinstance(files, bytes) else pack(files)
        answer = self._api.client.post("/datasets", files=[("files", ("set.zip", content))])
        assert answer.status_code == 202, answer.text
        return self.finish(answer.json()["id"])

    def finish(self, dataset: str) -> str:
        while (shown := self._api.client.get(f"/datasets/{dataset}").json())["status"] == "validating":
            assert self.validator.run_next()
        assert shown["status"] == "ready", shown
        return dataset


def pack(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def translucent(number: int) -> bytes:
    """Colours under an alpha of many levels, 0 among them."""
    image = Image.open(io.BytesIO(png(number))).convert("RGB")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
