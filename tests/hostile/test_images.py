"""Pictures that no honest program makes are left out with the reason, and cost the decoder neither life nor memory."""

import re
from pathlib import Path

import pytest

from core.storage import MemoryStorage
from tests.app.conftest import LiveApi
from tests.app.test_jobs import refuse
from tests.fixtures.pictures import png
from tests.hostile.images import FOREIGN, list_costly, list_images
from tests.worker.datasets.test_examination import receive
from worker.datasets.examination import Examination
from worker.datasets.images import Unusable
from worker.datasets.sandbox import Sandbox

PEAK_BYTES = 256 << 20
"""Of the decoder's resident memory, at limits of 1 MiB of pixels."""


def measure_peak(pid: int | None) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) << 10


def test_left_out_with_its_reason(sandbox: Sandbox, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for what, (data, words) in list_images().items():
        with subtests.test(what):
            (tmp_path / "source").write_bytes(data)
            before = sandbox.pid
            with pytest.raises(Unusable) as refused:
                sandbox.convert(tmp_path / "source", tmp_path / "target")
            assert words in str(refused.value) and str(refused.value).endswith(".")
            assert before in (None, sandbox.pid), "the decoder must refuse, not die"
            assert not (tmp_path / "target").exists()
            assert measure_peak(sandbox.pid) < PEAK_BYTES


def test_taken_at_no_cost_to_speak_of(sandbox: Sandbox, tmp_path: Path, subtests: pytest.Subtests) -> None:
    """Processor time is limited by the decoder itself."""
    for what, data in list_costly().items():
        with subtests.test(what):
            (tmp_path / "source").write_bytes(data)
            (tmp_path / "target").unlink(missing_ok=True)
            before = sandbox.pid
            assert sandbox.convert(tmp_path / "source", tmp_path / "target").width in {48, 64, 1000}
            assert before in (None, sandbox.pid)
            assert measure_peak(sandbox.pid) < PEAK_BYTES
            assert (tmp_path / "target").stat().st_size < 1 << 20


def test_a_set_of_them_all_keeps_its_good_picture(sandbox: Sandbox, tmp_path: Path) -> None:
    """Whatever their names say."""
    suffixes = ("png", "jpg", "webp", "heic", "avif", "bmp", "tif", "gif")
    files = {f"{number}.{suffixes[number % 8]}": data for number, (data, _) in enumerate(list_images().values())}
    storage = MemoryStorage()
    received = receive(storage, {**files, "good.png": png(7)})
    examination = Examination("ds_1", storage, sandbox, tmp_path, max_images=1000, check=lambda: None)
    examination.run(received)
    assert [image.name for image in examination.findings.images] == ["good.png"]
    assert {item.file for item in examination.findings.left_out} == set(files)
    assert all(item.reason for item in examination.findings.left_out)


def test_what_is_no_picture_at_all_is_refused_with_the_upload(api: LiveApi) -> None:
    dataset = api.client.post("/datasets", json={}).json()["id"]
    images = list_images()
    foreign = [what for what, (_, words) in images.items() if words == FOREIGN]
    assert len(foreign) > 30
    for what in foreign:
        data, problem = images[what][0], None
        for answer in (
            api.client.put(f"/datasets/{dataset}/files/a.png", content=data),
            api.client.post("/datasets", files={"files": ("a.webp", data)}),
        ):
            problem = refuse(answer, 422, "image-rejected")
        assert problem and "a.webp" in problem["detail"], what
    assert api.list_stored(f"datasets/{dataset}") == []
