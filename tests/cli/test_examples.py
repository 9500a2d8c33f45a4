"""The example set is what its script draws, and fit to be learned from."""

from pathlib import Path

import pytest
from PIL import Image, ImageChops

from scripts.draw_blip import PICTURES, SIZE, write_set
from scripts.glyphs import BACKGROUNDS
from worker.datasets.images import hash_differences, measure_sharpness

COMMITTED = Path(__file__).parents[2] / "examples" / "blip"
FILES = sorted(COMMITTED.glob("*.png"))


def test_the_committed_pictures_are_those_that_the_script_draws(tmp_path: Path) -> None:
    drawn = list(write_set(tmp_path))
    assert [path.name for path in drawn] == [path.name for path in FILES]
    for path in drawn:
        committed = COMMITTED / path.name
        assert path.with_suffix(".txt").read_text() == committed.with_suffix(".txt").read_text()
        # Pixels, not bytes: another build of zlib packs the same picture otherwise.
        with Image.open(path) as new, Image.open(committed) as old:
            assert ImageChops.difference(new, old).getbbox() is None, path.name


def test_some_backgrounds_are_left_for_the_samples() -> None:
    assert {"blue", "pink", "purple"}.isdisjoint(picture.background for picture in PICTURES)
    assert {picture.size_word for picture in PICTURES} == {"large", "small"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_picture_shows_the_background_that_its_caption_names(path: Path) -> None:
    with Image.open(path) as image:
        assert image.size == (SIZE, SIZE)
        corner = image.getpixel((2, SIZE - 3))
    names = [name for name, colour in BACKGROUNDS.items() if colour == corner]
    assert path.with_suffix(".txt").read_text().strip().endswith(f"blip on a {names[0]} background")


def test_no_two_are_alike_and_none_is_blurred() -> None:
    hashes = []
    for path in FILES:
        with Image.open(path) as image:
            assert measure_sharpness(image) > 100
            hashes.append(int(hash_differences(image), 16))
    distances = [(a ^ b).bit_count() for index, a in enumerate(hashes) for b in hashes[:index]]
    assert min(distances) > 5
