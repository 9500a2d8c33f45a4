"""The same files are found again as one dataset; captions are looked for where the service reads them."""

import zipfile
from pathlib import Path

import pytest

from atelier_client import AtelierClient, select_files
from atelier_client.uploads import CAPTION_SUFFIXES, IMAGE_SUFFIXES, METADATA_NAMES
from core.domain import dataset as rules
from core.domain import metadata
from core.domain.layouts import Place, read_layout
from tests.fixtures.client import write
from tests.fixtures.pictures import png

FILES = {"b/ö.png": png(1, 96, 96), "a.png": png(2, 96, 96), "a.txt": b"a fox", "Z.png": png(3, 96, 96)}


@pytest.mark.usefixtures("validator")
def test_the_service_and_the_client_give_files_the_same_hash(client: AtelierClient, tmp_path: Path) -> None:
    selection = select_files(write(tmp_path, FILES))
    dataset = client.wait_for_dataset(client.upload_dataset(tmp_path, name="foxes").id)
    assert dataset.files_sha256 == selection.content_hash()
    assert client.find_dataset(selection) == dataset
    assert next(client.list_datasets()).files_sha256 == dataset.files_sha256


@pytest.mark.usefixtures("validator")
@pytest.mark.parametrize("change", [{"a.txt": b"a wolf"}, {"A.png": FILES["a.png"]}, {"Z.png": png(4, 96, 96)}])
def test_other_files_are_another_dataset(client: AtelierClient, tmp_path: Path, change: dict[str, bytes]) -> None:
    client.wait_for_dataset(client.upload_dataset(write(tmp_path / "one", FILES)).id)
    assert client.find_dataset(select_files(write(tmp_path / "two", FILES | change))) is None


@pytest.mark.usefixtures("validator")
def test_a_set_that_left_something_out_is_found_too(client: AtelierClient, tmp_path: Path) -> None:
    selection = select_files(write(tmp_path, {**FILES, "bad.png": png(7)[:200], "bad.jpg": b"not a picture"}))
    dataset = client.wait_for_dataset(client.upload_dataset(selection).id)
    assert dataset.report and {one.file for one in dataset.report.left_out} == {"bad.png", "bad.jpg"}
    assert client.find_dataset(selection) == dataset


@pytest.mark.parametrize(
    "name",
    ["a.txt", "a.TXT", "a.caption", "metadata.jsonl", "metadata.csv", "sub/metadata.jsonl", "10_blip robot/b.png"],
)
def test_captions_are_found_wherever_they_may_stand(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "set", {"a.png": b"x", name: b"x"})
    assert select_files(folder).may_have_captions()
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.png", b"x")
        archive.writestr(name, b"x")
    assert select_files(tmp_path / "set.zip").may_have_captions()


@pytest.mark.parametrize(
    "name",
    [
        "10_blip robot", "3_x", "0010_blip", "1000_blip", "100_blip", "10_!", "1001_blip", "2024_summer", "100_PANA_",
        "100_PANA", "103_0615", "0_blip", "10_", "blip", "x10_blip",
    ],
)  # fmt: skip
def test_a_folder_is_read_by_its_name_where_the_service_reads_it(tmp_path: Path, name: str) -> None:
    """As PATH and as a folder in it; and it counts as captions just where its name is one."""
    folder = write(tmp_path / "set" / name, {"a.png": b"x", "notes.pdf": b"x"})
    place = read_layout([f"{name}/a.png"]).places.get(f"{name}/a.png")
    is_read = place is not None and place != Place()
    selection, above = select_files(folder), select_files(tmp_path / "set")
    assert [upload.name for upload in selection.uploads] == [f"{name}/a.png" if is_read else "a.png"]
    assert selection.skipped == (f"{name}/notes.pdf" if is_read else "notes.pdf",)
    assert (selection.may_have_captions(), above.may_have_captions()) == (is_read, is_read)
    if is_read:
        assert read_layout([selection.uploads[0].name]).places == {f"{name}/a.png": place}


@pytest.mark.parametrize("path", [".", "../10_blip", "10_blip/", "10_blip/../10_blip", "link"])
def test_the_folders_name_is_found_however_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    folder = write(tmp_path / "10_blip", {"a.png": b"x"})
    (folder / "deep").mkdir()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder if path.startswith(".") else tmp_path)
    selection = select_files(Path(path))
    is_link = path == "link"
    assert (selection.name, selection.uploads[0].name) == (
        ("link", "a.png") if is_link else ("10_blip", "10_blip/a.png")
    )
    monkeypatch.chdir(folder / "deep")
    assert select_files(Path("..")).uploads[0].name == "10_blip/a.png"


def test_an_archive_that_cannot_be_listed_is_left_to_the_service(tmp_path: Path) -> None:
    for name in ("set.zip", "set.tar", "set.tar.xz"):
        (tmp_path / name).write_bytes(b"this is not an archive")
        assert select_files(tmp_path / name).may_have_captions()


def test_every_kind_of_file_that_the_service_reads_is_sent() -> None:
    assert IMAGE_SUFFIXES >= rules.IMAGE_SUFFIXES
    assert set(rules.CAPTION_SUFFIXES) == CAPTION_SUFFIXES
    assert set(metadata.METADATA_NAMES) == METADATA_NAMES
