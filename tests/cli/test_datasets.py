"""`atelier datasets revise` and `download`."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from atelier_client import AtelierClient, select_files
from tests.cli.conftest import Atelier
from tests.fixtures.client import write
from tests.fixtures.pictures import png

pytestmark = pytest.mark.usefixtures("validator")


@pytest.fixture
def dataset(client: AtelierClient, tmp_path: Path) -> str:
    pictures = {f"{number}.png": png(number) for number in range(3)}
    captions = {f"{number}.txt": f"a kitten, {number}".encode() for number in range(3)}
    folder = write(tmp_path / "my cat", {**pictures, **captions})
    return client.wait_for_dataset(client.upload_dataset(select_files(folder), name="my cat").id).id


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_edits_by_options(atelier: Atelier, dataset: str, tmp_path: Path) -> None:
    options = ["--exclude", "0.png", "--find", "Kitten", "--replace", "cat", "--ignore-case", "--whole-word"]
    options += ["--find", "1", "--replace", "", "--add-tag", "indoors", "--front", "--prefix", "photo, "]
    result = atelier("datasets", "revise", dataset, *options, "--name", "cats", "--json")
    assert result.exit_code == 0, result.output
    (said,) = lines_of(result.stdout)
    assert (said["event"], said["status"], said["parent"], said["report"]["num_images"]) == (
        "dataset", "ready", dataset, 2,
    )  # fmt: skip
    shown = atelier("datasets", "download", said["id"], "--layout", "imagefolder")
    assert shown.exit_code == 0, shown.output
    assert "out/cats-imagefolder.zip" in shown.stdout
    with zipfile.ZipFile(tmp_path / "out" / "cats-imagefolder.zip") as archive:
        rows = [json.loads(line) for line in archive.read("metadata.jsonl").splitlines()]
    assert [row["text"] for row in rows] == ["photo, indoors, a cat,", "photo, indoors, a cat, 2"]


def test_edits_by_a_file_with_crops(atelier: Atelier, dataset: str, tmp_path: Path) -> None:
    edits = "captions: {1.png: a dog}\ncrop: {2.png: {left: 0, top: 0, width: 16, height: 24}}\nsuffix: x\n"
    (tmp_path / "edits.yaml").write_text(edits)
    result = atelier("datasets", "revise", dataset[:14], "--edits", "edits.yaml", "--suffix", "!")
    assert result.exit_code == 0, result.output
    assert "is ready: 3 images." in result.stdout
    assert atelier("datasets", "download", dataset, "--out", "there").exit_code == 0
    with zipfile.ZipFile(tmp_path / "there" / "my-cat-kohya.zip") as archive:
        assert archive.read("1_my cat/0.txt") == b"a kitten, 0"


def test_faults_are_spelled_as_options(atelier: Atelier, dataset: str) -> None:
    unknown = atelier("datasets", "revise", dataset, "--exclude", "9.png")
    assert (unknown.exit_code, "--exclude: the dataset has no image 9.png" in unknown.stderr) == (2, True), unknown
    alone = atelier("datasets", "revise", dataset, "--find", "a")
    assert (alone.exit_code, "Each --find needs one --replace" in alone.stderr) == (2, True)
    nothing = atelier("datasets", "revise", dataset)
    assert (nothing.exit_code, "change nothing" in nothing.stderr) == (2, True)
    assert atelier("datasets", "download", dataset, "--layout", "coco").exit_code == 2
