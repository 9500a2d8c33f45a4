"""Short texts from a client: one line, with visible content."""

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, Field

_ANY = r"[^\x00-\x1f\x7f]*"
PATTERN = rf"^{_ANY}[^\x00-\x1f\x7f\s]{_ANY}$"
"""For clients; ``check_phrase`` decides, and knows more invisible characters."""

_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Hangul fillers and Braille's empty cell: letters and signs by their category, but invisible."""


def is_blank(text: str) -> bool:
    """Whether all of it is invisible: spaces of any kind, controls, format characters such as the zero-width space, and
    marks without a letter to stand on."""
    return not any(unicodedata.category(c)[0] not in "ZCM" and c not in _BLANK_LETTERS for c in text)


def check_phrase(text: str) -> str:
    """Without the spaces around it. Raises ValueError."""
    if any(unicodedata.category(c) == "Cc" for c in text if ord(c) < 0x80):
        raise ValueError("must be one line, without control characters such as tabs")
    if is_blank(text):
        raise ValueError("is blank: give visible text, or leave it out")
    return text.strip()


Phrase = Annotated[
    str, Field(min_length=1, max_length=200, json_schema_extra={"pattern": PATTERN}), AfterValidator(check_phrase)
]
Prompt = Annotated[
    str, Field(min_length=1, max_length=1000, json_schema_extra={"pattern": PATTERN}), AfterValidator(check_phrase)
]
