"""One is not several, in whatever message it is counted."""

import pytest

from core.domain.counts import counted
from core.domain.outcome import describe_cut
from tests.core.domain.test_plan import plan


@pytest.mark.parametrize(("number", "text"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1200, "1,200 images")])
def test_a_count_knows_its_singular(number: int, text: str) -> None:
    assert counted(number, "image") == text
    assert counted(number, "mask of it", "masks of it").endswith("mask of it" if number == 1 else "masks of it")


def test_one_caption_that_is_cut_is_one() -> None:
    assert describe_cut(1, plan(1, trigger="blip")).startswith("1 of 1 caption is longer than")
    assert describe_cut(1, plan(12, trigger="blip")).startswith("1 of 12 captions is longer than")
    assert describe_cut(2, plan(12, trigger="blip")).startswith("2 of 12 captions are longer than")
