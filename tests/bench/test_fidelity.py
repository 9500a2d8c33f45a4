"""The measures of likeness, on pictures of which the right values are known."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from bench.quality.fidelity import Subject
from scripts.colors import BACKGROUNDS
from scripts.draw_blip import PICTURES, draw_blip
from scripts.glyphs import Pose, compose

LOOKS = tuple(draw_blip(picture.look) for picture in PICTURES[:3])
BLUE = BACKGROUNDS["blue"]


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(LOOKS, "large", BLUE)


def draw(look: int = 1, color: tuple[int, int, int] = BLUE) -> Image.Image:
    return compose(LOOKS[look], color, Pose(0.83, 7.0, 2.0, -1.0, flip=True))


def test_a_render_is_found_in_any_pose_and_look(subject: Subject) -> None:
    for look in range(len(LOOKS)):
        found = subject.compare(draw(look))
        assert found.psnr > 22 and found.color_error < 9 and found.border == 0


def test_another_thing_is_far_from_the_subject(subject: Subject) -> None:
    blob = Image.new("RGB", (64, 64), BLUE)
    blob.paste((20, 20, 20), (16, 16, 48, 48))
    assert subject.compare(blob).psnr < subject.compare(draw()).psnr - 6


def test_washed_out_colors_are_an_error_of_color(subject: Subject) -> None:
    errors = [subject.compare(ImageEnhance.Color(draw()).enhance(part)).color_error for part in (1.0, 0.6, 0.2)]
    assert errors[0] < errors[1] < errors[2]


def test_stains_near_the_edge_are_a_deviation_of_the_border(subject: Subject) -> None:
    noise = np.random.default_rng(0).normal(0, 8, (64, 64, 3))
    stained = Image.fromarray((np.asarray(draw(), np.float32) + noise).clip(0, 255).astype(np.uint8))
    assert subject.compare(stained).border == pytest.approx(8, abs=1)


def test_of_a_picture_without_the_subject_there_is_an_error_of_color_all_the_same(subject: Subject) -> None:
    found = subject.compare(Image.new("RGB", (64, 64), BLUE))
    assert found.psnr < 20 and found.color_error > 20
