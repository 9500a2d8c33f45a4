"""The pages' texts: one JSON file for each language, which templates and scripts share. A new file is a translation.

A text is a string with ``{fields}``, or the forms of a plural by CLDR's names (``one``, ``other``). What a language
lacks is shown in English.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request

HERE = Path(__file__).parent
DEFAULT = "en"
LANGUAGES = tuple(sorted(path.stem for path in HERE.glob("*.json")))

Texts = dict[str, str | dict[str, str]]


@cache
def load_texts(language: str) -> Texts:
    own: Texts = json.loads((HERE / f"{language}.json").read_text(encoding="utf-8"))
    return own if language == DEFAULT else {**load_texts(DEFAULT), **own}


def choose_language(request: Request) -> str:
    """The first of the browser's languages that there is (RFC 9110, 12.5.4), by weight."""
    ranges = [one.strip().partition(";") for one in request.headers.get("accept-language", "").split(",")]
    weighed = sorted(ranges, key=lambda one: -_weight_of(one[2]))
    tags = [tag.strip().lower().split("-")[0] for tag, _, parameters in weighed if _weight_of(parameters) > 0]
    return next((tag for tag in tags if tag in LANGUAGES), DEFAULT)


def _weight_of(parameters: str) -> float:
    try:
        return float(parameters.strip().removeprefix("q=") or 1)
    except ValueError:
        return 0


def translate(language: str, key: str, **values: Any) -> str:
    """Raises KeyError for an unknown key. Of a plural, which templates use for ``count``, English has two forms."""
    text = load_texts(language)[key]
    if isinstance(text, dict):
        text = text["one" if values["count"] == 1 and "one" in text else "other"]
    return text.format(**values) if values else text
