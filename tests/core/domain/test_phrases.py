"""Texts that cannot be seen call nothing."""

import re

import pytest
from pydantic import ValidationError

from core.domain.phrases import PATTERN, is_blank
from core.domain.spec import TrainingSpec

BLANK = [
    " ",
    "   ",
    "\u00a0",
    "\u3000",
    "\u2003",
    "\u200b",
    "\u200b\u200d",
    "\u2060",
    "\ufeff",
    "\u00ad",
    "\u2800",
    "\u3164",
]
BLANK += ["\u115f\u1160", "\u0301", " \u200e ", "\u2028", "\u180e", "\ue000"]


@pytest.mark.parametrize("text", BLANK)
def test_blank_texts_are_refused(text: str) -> None:
    assert is_blank(text)
    for spec in (
        {"trigger": text},
        {"name": text},
        {"samples": {"prompts": ["a cat", text]}},
        {"loss": {"prior_preservation": {"class_prompt": text}}},
        {"captions": {"template": text}},
    ):
        with pytest.raises(ValidationError, match="is blank"):
            TrainingSpec.model_validate(spec)


@pytest.mark.parametrize("text", ["a", ".", "ブリップ", "👩\u200d🚀", "e\u0301", "<blip>", "0"])
def test_what_can_be_seen_is_taken(text: str) -> None:
    assert TrainingSpec(trigger=text).trigger == text
    assert re.match(PATTERN, text)


def test_spaces_around_it_go() -> None:
    assert TrainingSpec(trigger="  blip\u00a0").trigger == "blip"


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "\x7f"])
def test_control_characters_are_refused_in_words(text: str) -> None:
    with pytest.raises(ValidationError, match="must be one line"):
        TrainingSpec(trigger=text)
    assert not re.match(PATTERN, text)
