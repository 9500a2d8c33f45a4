"""What of a folder is sent, and that it arrives."""

import errno
import io
import os
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atelier_client import AtelierClient, DatasetUnusable, InputError, select_files
from atelier_client.uploads import LazyFile
from tests.atelier_client.faults import RestartingService
from tests.fixtures.client import write
from tests.fixtures.pictures import png
from tests.fixtures.running_api import RunningApi


def test_images_and_captions_are_sent_and_the_rest_is_named(tmp_path: Path) -> None:
    names = [
        "b.PNG",
        "a.jpg",
        "a.txt",
        "deep/er/c.webp",
        "metadata.jsonl",
        "notes.pdf",
        "set.zip",
        "...and then.png",
        "._a.jpg",
        ".DS_Store",
        ".git/x.png",
        ".hack/x.png",
        ".config/x",
    ]
    selection = select_files(write(tmp_path, dict.fromkeys(names, b"x")))
    sent = [upload.name for upload in selection.uploads]
    assert sent == ["...and then.png", "a.jpg", "a.txt", "b.PNG", "metadata.jsonl", "deep/er/c.webp"]
    assert selection.skipped == ("notes.pdf", "set.zip", ".hack/")
    assert selection.num_images == 4
    assert selection.size == 6


def test_a_circle_of_links_does_not_hang(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": b"x"})
    (tmp_path / "again").symlink_to(tmp_path)
    assert [upload.name for upload in select_files(tmp_path).uploads] == ["a.png"]


@pytest.mark.parametrize(
    ("name", "message"), [("nowhere", "There is no folder"), ("empty", "holds no image"), ("a.pdf", "neither a folder")]
)
def test_unusable_paths_are_refused_before_anything_is_sent(tmp_path: Path, name: str, message: str) -> None:
    write(tmp_path, {"a.pdf": b"x", "empty/caption.txt": b"x"})
    with pytest.raises(InputError, match=message):
        select_files(tmp_path / name)


def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    write(tmp_path, {"a.png": b"x", os.fsdecode(b"caf\xe9.png"): b"x"})
    with pytest.raises(InputError, match=r"caf\\udce9\.png' is not UTF-8: rename"):
        select_files(tmp_path)


def test_an_unreadable_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so it is kept from it here."""
    write(tmp_path, {"a.png": b"x", "closed/b.png": b"x"})
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png cannot be read"):
        select_files(tmp_path)
    monkeypatch.undo()

    def scan(path: str, scan: Callable[[str], Any] = os.scandir) -> Any:
        if path.endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(InputError, match=r"closed cannot be read \(Permission denied\)"):
        select_files(tmp_path)


def test_a_file_that_was_deleted_is_an_error(client: AtelierClient, tmp_path: Path) -> None:
    selection = select_files(write(tmp_path, {"a.png": png(), "b.png": png()}))
    (tmp_path / "b.png").unlink()
    with pytest.raises(InputError, match=r"b\.png cannot be read \(No such file"):
        client.upload_dataset(selection)
    file = LazyFile(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png cannot be read \(No such file"):
        file.read(1)


def test_a_lazy_file_reads_like_any_other_and_is_closed_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(256)) * 1000)
    heard: list[int] = []
    file = LazyFile(path, heard.append)
    assert file.seek(0, io.SEEK_END) == 256_000
    file.seek(0)
    blocks = list(iter(lambda: file.read(65536), b""))
    assert b"".join(blocks) == path.read_bytes()
    assert sum(heard) == 256_000
    file.seek(255_999)
    assert file.read(10) == b"\xff"


def test_a_set_may_have_more_files_than_a_process_may_open(client: AtelierClient, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    write(tmp_path, {f"{n:03}.png": png(0, 16, 16) for n in range(300)})
    open_now = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc").exists() else 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 30, hard))
    try:
        dataset = client.upload_dataset(select_files(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert dataset.status == "validating"


@pytest.mark.usefixtures("validator")
def test_a_folder_becomes_a_dataset_and_its_flaws_are_reported(client: AtelierClient, tmp_path: Path) -> None:
    files = {f"cat {n}.png": png(n, 96, 80) for n in range(5)}
    files |= {"cat 0.txt": b"a cat", 'sub/dög "é".png': png(9, 96, 96)}
    dataset = client.upload_dataset(select_files(write(tmp_path, files)), name="cats")
    ready = client.wait_for_dataset(dataset.id)
    assert (ready.status, ready.name) == ("ready", "cats")
    assert ready.report is not None
    assert ready.report.num_images == 6
    assert "missing-captions" in [warning.code for warning in ready.report.warnings]


@pytest.mark.usefixtures("validator")
def test_a_check_is_waited_for_while_the_service_starts_again(running_api: RunningApi, tmp_path: Path) -> None:
    selection = select_files(write(tmp_path, {f"{n}.png": png(n, 96, 96) for n in range(3)}))
    service = RestartingService()
    with AtelierClient(running_api.url, running_api.api_key, transport=service) as client:
        assert client.wait_for_dataset(client.upload_dataset(selection).id).status == "ready"
    assert service.left == []


@pytest.mark.usefixtures("validator")
def test_a_broken_image_is_left_out_with_its_reason(client: AtelierClient, tmp_path: Path) -> None:
    files = {f"{n}.png": png(n, 96, 96) for n in range(3)} | {"bad.png": png(7)[:200]}
    ready = client.wait_for_dataset(client.upload_dataset(select_files(write(tmp_path, files))).id)
    assert ready.report is not None
    assert [item.file for item in ready.report.left_out] == ["bad.png"]
    assert ready.report.num_images == 3


@pytest.mark.usefixtures("validator")
def test_an_archive_is_sent_as_it_is(client: AtelierClient, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", png(number, 96, 96))
    dataset = client.upload_dataset(select_files(tmp_path / "set.zip"))
    ready = client.wait_for_dataset(dataset.id)
    assert ready.report is not None
    assert ready.report.num_images == 3


@pytest.mark.usefixtures("validator")
def test_a_rejected_set_says_why(client: AtelierClient, tmp_path: Path) -> None:
    dataset = client.upload_dataset(select_files(write(tmp_path, {"bad.png": png(7)[:200]})))
    with pytest.raises(DatasetUnusable, match="bad") as caught:
        client.wait_for_dataset(dataset.id)
    assert caught.value.dataset.status == "rejected"
