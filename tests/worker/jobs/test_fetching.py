"""Pictures come from storage as the manifest says, or not at all."""

import hashlib
from pathlib import Path

import pytest

from core.domain.dataset import Bucket
from core.domain.plan import PlannedImage
from core.storage import open_storage
from worker.jobs.fetching import InputDamaged, fetch_images


def test_a_picture_that_was_damaged_in_storage_is_not_trained_on(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    sha256 = hashlib.sha256(b"a picture").hexdigest()
    image = PlannedImage(key="datasets/a/images/1.png", sha256=sha256, bucket=Bucket(width=64, height=64), caption="")
    storage.put(image.key, b"a picture")
    files = fetch_images(storage, [image], tmp_path / "work", lambda: None)
    assert files[sha256].read_bytes() == b"a picture"
    storage.put(image.key, b"a pictura")
    fetch_images(storage, [image], tmp_path / "work", lambda: None)  # what is here and whole is taken
    with pytest.raises(InputDamaged, match="upload the set again"):
        fetch_images(storage, [image], tmp_path / "other", lambda: None)
    assert not list((tmp_path / "other").iterdir())
