"""A job's metrics for spreadsheets and TensorBoard, and its report."""

import base64
import csv
import io
import itertools
import re
import struct
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from app.jobs import metric_files, report
from app.jobs.metric_files import EventWriter, _crc32c, write_rows
from core.db import job_claims
from core.db.tables import JobMetric
from core.domain.states import TerminationReason
from tests.app.conftest import LiveApi
from tests.app.factory import Worker, submit

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
EVIL = "<script>alert(1)</script>\"'&"


def train(api: LiveApi, **spec: Any) -> Worker:
    worker = Worker(api, submit(api, **spec)["id"])
    worker.train(10)
    worker.write(job_claims.add_validation, worker.claim, step=5, loss=0.5)
    return worker


def test_the_table_has_a_line_for_each_step(api: LiveApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_files, "ROWS_AT_ONCE", 3)
    worker = train(api)
    answer = api.client.get(f"/jobs/{worker.job_id}/metrics.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["content-disposition"] == 'attachment; filename="toy.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [int(row["step"]) for row in rows] == list(range(1, 11))
    assert rows[4] == {
        "step": "5",
        "attempt": "1",
        "loss": "0.2",
        "validation_loss": "0.5",
        "learning_rate": "0.0001",
        "seconds_per_step": "0.2",
    }
    assert rows[3]["validation_loss"] == ""


def test_a_job_without_steps_has_an_empty_table(api: LiveApi) -> None:
    job_id = submit(api)["id"]
    assert api.client.get(f"/jobs/{job_id}/metrics.csv").text == ",".join(metric_files.COLUMNS) + "\r\n"
    assert [event[3] for event in read_events(api.client.get(f"/jobs/{job_id}/tensorboard").content)] == [
        b"brain.Event:2"
    ]


def test_the_event_file_has_every_step(api: LiveApi) -> None:
    worker = train(api)
    answer = api.client.get(f"/jobs/{worker.job_id}/tensorboard")
    name = answer.headers["content-disposition"]
    assert re.fullmatch(rf'attachment; filename="events\.out\.tfevents\.\d{{10}}\.{worker.job_id}"', name)
    first, *events = read_events(answer.content)
    assert first[3] == b"brain.Event:2"
    assert [event[2] for event in events] == list(range(1, 11))
    scalars = [read_scalars(event[5]) for event in events]
    assert scalars[4] == {
        "loss/train": pytest.approx(0.2),
        "loss/validation": pytest.approx(0.5),
        "learning_rate": pytest.approx(1e-4),
    }
    assert set(scalars[3]) == {"loss/train", "learning_rate"}
    times = [event[1] for event in (first, *events)]
    assert [round(b - a, 3) for a, b in itertools.pairwise(times)] == [0.2] * 10


def test_large_steps_are_written_whole() -> None:
    row = JobMetric(step=100_000, attempt=1, loss=0.5, validation_loss=None, learning_rate=1e-4, seconds_per_step=1.0)
    [event] = read_events(EventWriter(NOW).write_rows([row]))
    assert event[2] == 100_000
    assert write_rows([row]) == b"100000,1,0.5,,0.0001,1.0\r\n"


def test_the_checksum_is_castagnolis() -> None:
    """RFC 3720, appendix B.4."""
    assert _crc32c(bytes(32)) == 0x8A9136AA
    assert _crc32c(b"\xff" * 32) == 0x62A8AB43
    assert _crc32c(bytes(range(32))) == 0x46DD794E
    assert _crc32c(b"123456789") == 0xE3069283 != zlib.crc32(b"123456789")


def read_events(content: bytes) -> list[dict[int, Any]]:
    """The fields of each record by their numbers; the record's checksums must hold."""
    events = []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        data = content[12 : 12 + length]
        assert content[8:12] == mask(content[:8]) and content[12 + length : 16 + length] == mask(data)
        events.append(dict(read_fields(data)))
        content = content[16 + length :]
    return events


def mask(data: bytes) -> bytes:
    crc = _crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def read_scalars(summary: bytes) -> dict[str, float]:
    values = [dict(read_fields(value)) for number, value in read_fields(summary) if number == 1]
    return {value[1].decode(): value[2] for value in values}


def read_fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Protobuf's encoding, read by its wire types."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()
        elif kind == 2:
            size = varint()
            yield number, data[place : (place := place + size)]
        else:
            code, size = {1: ("<d", 8), 5: ("<f", 4)}[kind]
            yield number, struct.unpack(code, data[place : (place := place + size)])[0]


class Page(HTMLParser):
    """All tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def sources(self) -> list[str]:
        return [attrs["src"] or "" for tag, attrs in self.tags if tag == "img"]


def test_the_report_holds_all_that_is_known(api: LiveApi) -> None:
    worker = train(api, name="Blip", metadata={"note": "mine"})
    request = api.client.post(f"/jobs/{worker.job_id}/samples", json={"prompts": ["a {trigger}"]}).json()["id"]
    requested = worker.draw_requested(request, 3)
    worker.sample(0)
    worker.sample(5)
    worker.keep_adapter(5)
    worker.succeed()
    answer = api.client.get(f"/jobs/{worker.job_id}/report")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="Blip.html"'
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Page(answer.text)
    for known in ("Blip", worker.job_id, "a toy", "job.succeeded", '"note": "mine"', "rank", "num parameters", "64000"):
        assert known in page.text, known
    assert page.text.count("the job's adapter") == 1
    pictures = [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in page.sources()]
    assert len(pictures) == 3 and requested in pictures
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    [line] = [attrs for tag, attrs in page.tags if tag == "polyline"]
    assert len((line["points"] or "").split()) == 10
    assert len([tag for tag, _ in page.tags if tag == "circle"]) == 1


def test_the_report_needs_no_network_and_runs_nothing(api: LiveApi) -> None:
    """Every text of a user stands in it as text."""
    worker = train(api, name=EVIL, metadata={EVIL: EVIL}, samples={"prompts": [EVIL]})
    worker.notice(EVIL)
    worker.succeed()
    html = api.client.get(f"/jobs/{worker.job_id}/report").text
    page = Page(html)
    assert page.text.count("<script>alert(1)</script>") >= 4
    assert not {"script", "link", "iframe", "object", "a", "form"} & {tag for tag, _ in page.tags}
    addresses = [value or "" for _, attrs in page.tags for name, value in attrs.items() if name in {"src", "href"}]
    assert all(value.startswith("data:image/png;base64,") for value in addresses)
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert "url(" not in html and "@import" not in html


def test_a_report_has_so_many_images_and_no_more(api: LiveApi, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = train(api)
    worker.sample(0)
    worker.sample(5)
    grids = [row["grid"] for row in api.client.get(f"/jobs/{worker.job_id}/samples").json()["data"]]
    monkeypatch.setattr(report, "MAX_IMAGE_BYTES", grids[0]["size"])
    page = Page(api.client.get(f"/jobs/{worker.job_id}/report").text)
    assert len(page.sources()) == 1
    assert "the images are left out" in page.text


def test_a_report_tells_how_a_job_failed(api: LiveApi) -> None:
    worker = Worker(api, submit(api)["id"])
    worker.write(job_claims.fail, worker.claim, TerminationReason.NAN_LOSS, "at step 3")
    page = Page(api.client.get(f"/jobs/{worker.job_id}/report").text)
    assert "The loss became NaN." in page.text and "Fewer than two steps were trained." in page.text


@pytest.mark.parametrize("path", ["metrics.csv", "tensorboard", "report"])
def test_head_sends_the_same_header_alone(api: LiveApi, path: str) -> None:
    worker = train(api)
    whole, head = (api.client.request(method, f"/jobs/{worker.job_id}/{path}") for method in ("GET", "HEAD"))
    assert head.status_code == 200 and head.content == b""
    for name in ("content-type", "content-disposition", "content-security-policy"):
        assert head.headers[name] == whole.headers[name]
    assert api.client.get(f"/jobs/job_none/{path}").status_code == 404
