"""Where images and captions of a download are."""

import json
from typing import Any

import pytest

from core.domain.dataset import DatasetManifest
from core.domain.downloads import list_files
from tests.core.domain.test_revision import image


def names_of(layout: Any, *images: Any) -> list[str]:
    return [file.name for file in list_files(DatasetManifest(images=images), layout, "toy")]


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("a.png", {}, "1_toy/a.png"),
        ("a.PNG", {}, "1_toy/a.PNG"),
        ("dogs/a.jpeg", {}, "1_toy/dogs_a.png"),
        ("photo", {}, "1_toy/photo.png"),
        ("a.jpg_large", {}, "1_toy/a.jpg_large.png"),
        ("10_blip/a.webp", {"repeats": 10}, "10_blip/a.png"),
        ("img/10_blip/a.png", {"repeats": 10}, "img/10_blip/a.png"),
        ("10_blip/near/a.png", {"repeats": 10}, "10_toy/10_blip_near_a.png"),
        ("2024_trip/a.png", {}, "1_toy/2024_trip_a.png"),
        ("reg/2_dog/a.png", {"repeats": 2, "role": "class"}, "reg/2_dog/a.png"),
        ("reg/a.png", {"role": "class"}, "reg/1_toy/reg_a.png"),
    ],
)
def test_kohyas_folders(name: str, values: dict[str, Any], expected: str) -> None:
    """What is directly in one already stays there: sd-scripts look no deeper."""
    assert names_of("kohya", image(name, **values)) == [expected]


def test_names_are_kept_apart() -> None:
    assert names_of("imagefolder", image("a.jpg"), image("a.png"), image("A.webp")) == [
        "metadata.jsonl", "a (2).png", "a.png", "A (3).png",
    ]  # fmt: skip
    assert names_of("kohya", image("a/b.png", "x"), image("a_b.png", "y")) == [
        "1_toy/a_b.png", "1_toy/a_b.txt", "1_toy/a_b (2).png", "1_toy/a_b (2).txt",
    ]  # fmt: skip


def test_every_image_has_a_row() -> None:
    files = list_files(DatasetManifest(images=(image("a.png", 'a "toy" \u2028'), image("b.png"))), "imagefolder", "toy")
    assert isinstance(files[0].content, bytes)
    rows = [json.loads(line) for line in files[0].content.decode().rstrip("\n").split("\n")]
    assert rows == [{"file_name": "a.png", "text": 'a "toy" \u2028'}, {"file_name": "b.png", "text": ""}]
