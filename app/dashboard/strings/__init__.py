"""The pages' texts: one JSON file for each language, which templates and scripts share. A new file is a translation.

A text is a string with ``{fields}``, or the forms of a plural by CLDR's names (``one``, ``other``). What a language
lacks is shown in English. Texts that the API sends are in English whatever the language, and shown as they are: titles
and details of errors, notices and reasons for waiting, warnings of a dataset's report that have no text here.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request

HERE = Path(__file__).parent
SCRIPTS = HERE.parent / "static"
DEFAULT = "en"
LANGUAGES = tuple(sorted(path.stem for path in HERE.glob("*.json")))

Texts = dict[str, str | dict[str, str]]


@cache
def load_texts(language: str) -> Texts:
    own: Texts = json.loads((HERE / f"{language}.json").read_text(encoding="utf-8"))
    return own if language == DEFAULT else {**load_texts(DEFAULT), **own}


@cache
def load_script_texts(language: str, page: str | None = None) -> Texts:
    """Those that scripts name in full, as ``"key"``, or by their beginning, as ``t(`key.${…}`)``; of one ``page``, only
    those of the module with that name and of the ones that it imports."""
    names = _list_modules(page, set()) if page else {path.stem for path in SCRIPTS.glob("*.js")}
    source = "\n".join(_read_module(name) for name in sorted(names))
    named = set(re.findall(r'"([\w.-]+)"', source))
    beginnings = tuple(re.findall(r"`([\w.-]+\.)\$\{", source))
    return {key: text for key, text in load_texts(language).items() if key in named or key.startswith(beginnings)}


def _list_modules(name: str, found: set[str]) -> set[str]:
    if name not in found:
        found.add(name)
        for imported in re.findall(r'"\./([a-z-]+)\.js"', _read_module(name)):
            _list_modules(imported, found)
    return found


def _read_module(name: str) -> str:
    return (SCRIPTS / f"{name}.js").read_text(encoding="utf-8")


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
