"""PUT /adapters/{id}/cover: a picture is read in the decoder's process and written anew before anybody sees it."""

import hashlib
import io
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from core.db import covers, leases
from core.db.session import make_sessions, open_engine
from core.domain.artifacts import sent_cover_prefix
from tests.app.conftest import LiveApi, workers_url
from tests.app.factory import draw_png
from tests.app.test_adapters import import_ready
from tests.app.test_jobs import refuse
from tests.app.test_library import change, sum_bytes
from worker.consumer import Consumer
from worker.covers import MAX_PIXELS, CoverReading


def send(api: LiveApi, adapter_id: str, content: bytes) -> httpx.Response:
    return api.client.put(f"/adapters/{adapter_id}/cover", content=content)


def read_all(api: LiveApi) -> None:
    """Those that other tests left, too."""
    url = workers_url(api)
    settings = api.settings.model_copy(update={"database_url": url})
    sessions = make_sessions(open_engine(url, pool_size=2))
    consumer = Consumer[Any, Any](CoverReading, settings, sessions, api.storage, threading.Event())
    while consumer.run_next():
        pass


def send_and_read(api: LiveApi, adapter_id: str, content: bytes) -> dict[str, Any]:
    answer = send(api, adapter_id, content)
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "checking"
    read_all(api)
    return dict(api.client.get(answer.headers["location"], params={"wait": 1}).json())


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_picture_is_written_anew_and_shown(api: LiveApi) -> None:
    adapter_id = import_ready(api)
    info = PngInfo()
    info.add_text("Comment", "my address")
    content = save(Image.new("RGB", (80, 60), (200, 30, 30)), "PNG", pnginfo=info) + b"<script>trailing</script>"
    sent = send_and_read(api, adapter_id, content)
    assert (sent["status"], sent["error"]) == ("ready", None)
    cover = api.client.get(f"/adapters/{adapter_id}").json()["cover"]
    stored = api.client.get(cover["url"])
    assert hashlib.sha256(stored.content).hexdigest() == cover["sha256"]
    assert b"my address" not in stored.content and b"script" not in stored.content
    image = Image.open(io.BytesIO(stored.content))
    assert (image.format, image.size, image.convert("RGB").getpixel((5, 5))) == ("PNG", (80, 60), (200, 30, 30))
    assert not [key for key in api.list_stored(f"adapters/{adapter_id}/") if key.endswith("upload")][1:]
    assert sum_bytes(api) == sum(
        file["size"] for file in (*api.client.get(f"/adapters/{adapter_id}").json()["files"].values(), cover)
    )


def test_the_next_cover_replaces_the_last(api: LiveApi) -> None:
    adapter_id = import_ready(api)
    first = send_and_read(api, adapter_id, draw_png(1))
    before = api.client.get(f"/adapters/{adapter_id}").json()["cover"]
    second = send_and_read(api, adapter_id, save(Image.open(io.BytesIO(draw_png(2))), "WEBP"))
    now = api.client.get(f"/adapters/{adapter_id}").json()["cover"]
    assert second["status"] == "ready" and now["sha256"] != before["sha256"]
    assert api.list_stored(sent_cover_prefix(adapter_id, first["id"])) == []
    assert len(api.list_stored(sent_cover_prefix(adapter_id, second["id"]))) == 1
    refuse(api.client.get(first["urls"]["self"]), 404, "not-found")
    assert change(api, adapter_id, cover=None)["cover"] is None
    assert api.list_stored(sent_cover_prefix(adapter_id, second["id"])) == []


@pytest.mark.parametrize(
    "content",
    [b"no picture", draw_png()[:100], b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"GIF89a"],
    ids=["text", "cut", "svg", "head"],
)
def test_what_is_not_a_usable_picture_is_rejected_and_leaves_nothing(api: LiveApi, content: bytes) -> None:
    adapter_id = import_ready(api)
    good = send_and_read(api, adapter_id, draw_png(1))
    rejected = send_and_read(api, adapter_id, content)
    assert rejected["status"] == "rejected" and rejected["error"]["type"] == "/problems/image-rejected"
    assert rejected["error"]["detail"]
    assert api.list_stored(sent_cover_prefix(adapter_id, rejected["id"])) == []
    cover = api.client.get(f"/adapters/{adapter_id}").json()["cover"]
    assert good["id"] in api.list_stored(sent_cover_prefix(adapter_id, good["id"]))[0]
    assert api.client.get(cover["url"]).status_code == 200, "the one before stays"


def test_a_picture_of_too_many_pixels_is_rejected(api: LiveApi) -> None:
    side = int(MAX_PIXELS**0.5) + 1
    rejected = send_and_read(api, import_ready(api), save(Image.new("1", (side, side)), "PNG"))
    assert rejected["status"] == "rejected" and "pixels" in rejected["error"]["detail"]


def test_what_cannot_be_sent_is_refused(api: LiveApi, start_api: Callable[..., LiveApi]) -> None:
    adapter_id = import_ready(api)
    refuse(send(api, adapter_id, b""), 422, "invalid-request")
    refuse(send(api, "ad_none", draw_png()), 404, "not-found")
    assert send(api, adapter_id, draw_png()).status_code == 202
    refuse(send(api, adapter_id, draw_png()), 409, "wrong-state")
    small = start_api(max_file_bytes=1000)
    refuse(send(small, import_ready(small), b"x" * 1001), 413, "too-large")
    full = start_api(quota_stored_bytes=1)
    refuse(send(full, import_ready(small), draw_png()), 429, "quota-exceeded")


def test_a_worker_that_dies_too_often_rejects_it(start_api: Callable[..., LiveApi]) -> None:
    api = start_api()
    sent = send(api, import_ready(api), draw_png()).json()
    for _ in range(leases.MAX_DEATHS):
        with api.sessions.begin() as session:
            assert covers.claim_cover(session, lease_seconds=-1) is not None
            assert [row.id for row in covers.expire_covers(session)] == [sent["id"]]
    rejected = api.client.get(sent["urls"]["self"]).json()
    assert rejected["status"] == "rejected" and "the worker died" in rejected["error"]["detail"]
