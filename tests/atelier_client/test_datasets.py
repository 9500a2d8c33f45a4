"""Revisions and downloads with the Python client."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from atelier_client import ApiError, AtelierClient, select_files
from tests.fixtures.client import write
from tests.fixtures.pictures import png

pytestmark = pytest.mark.usefixtures("validator")


def test_a_dataset_is_revised_downloaded_and_uploaded_again(client: AtelierClient, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", {"a.png": png(1), "a.txt": b"a toy", "b.png": png(2)})
    first = client.wait_for_dataset(client.upload_dataset(folder, name="toys").id)
    crop = {"a.png": {"left": 0, "top": 0, "width": 16, "height": 16}}
    waiting = client.revise_dataset(first.id, {"crop": crop, "prefix": "x "}, name="cropped")
    assert (waiting.status, waiting.parent, waiting.name) == ("validating", first.id, "cropped")
    second = client.wait_for_dataset(waiting.id)
    target = tmp_path / "new" / "set.zip"
    sha256 = client.download_dataset(second.id, target, "imagefolder")
    assert sha256 == hashlib.sha256(target.read_bytes()).hexdigest()
    assert sorted(zipfile.ZipFile(target).namelist()) == ["a.png", "b.png", "metadata.jsonl"]
    again = client.wait_for_dataset(client.upload_dataset(select_files(target)).id)
    assert (again.manifest_sha256, again.parent) == (second.manifest_sha256, None)
    with pytest.raises(ApiError, match="change nothing"):
        client.revise_dataset(first.id, {})
