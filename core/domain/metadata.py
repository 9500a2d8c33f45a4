"""Metadata files of a set: captions by file name, as in Hugging Face's imagefolder.

``metadata.jsonl`` has one JSON object a line, ``metadata.csv`` one row, with the file's name in ``file_name`` and its
caption in ``text``; other trainers call the latter ``caption`` or ``prompt``.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
NAME_COLUMNS = ("file_name", "filename", "file", "image")
CAPTION_COLUMNS = ("text", "caption", "prompt")
MAX_METADATA_LINE_CHARS = 64 << 10
MAX_METADATA_PROBLEMS = 100
MAX_METADATA_ROWS = 50_000
_DELIMITERS = ",;\t"
_NOT_A_ROW = "is not a JSON object with the strings file_name and text (or caption, or prompt)"
_NO_HEADER = "line 1 does not name the columns file_name and text (or caption, or prompt)"


@dataclass(frozen=True, slots=True)
class Row:
    """A caption and its file's name, as written in ``line`` of the metadata file ``source``."""

    source: str
    line: int
    file_name: str
    caption: str


def is_metadata_name(name: str) -> bool:
    return PurePosixPath(name).name.lower() in METADATA_NAMES


def read_metadata(source: str, text: str) -> tuple[list[Row], list[str]]:
    """The rows of a metadata file, and its faults by line.

    After MAX_METADATA_PROBLEMS wrong lines or MAX_METADATA_ROWS rows the rest is not read: 16 MiB of either would take
    a gigabyte, and some time.
    """
    rows: list[Row] = []
    problems: list[str] = []
    lines = _read_csv(text) if source.lower().endswith(".csv") else _read_lines(text)
    for number, found in lines:
        if isinstance(found, str):
            problems.append(f"line {number} {found}" if number else found)
        elif len(rows) == MAX_METADATA_ROWS:
            problems.append(f"it has more than {MAX_METADATA_ROWS:,} rows: the rest was not read")
            break
        else:
            rows.append(Row(source, number, *found))
        if len(problems) == MAX_METADATA_PROBLEMS:
            break
    return rows, problems


Found = tuple[int, tuple[str, str] | str]
"""A line's number with its file and caption, or with its fault; number 0: a fault of the whole file."""


def _read_lines(text: str) -> Iterator[Found]:
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if line.strip():
            yield number, _parse_line(line) or _NOT_A_ROW


def _parse_line(line: str) -> tuple[str, str] | None:
    if len(line) > MAX_METADATA_LINE_CHARS:
        return None
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return _pick(row) if isinstance(row, dict) else None


def _pick(row: Mapping[Any, Any]) -> tuple[str, str] | None:
    """The first text of each kind; other columns are ignored."""
    name = next((row[column] for column in NAME_COLUMNS if isinstance(row.get(column), str)), None)
    caption = next((row[column] for column in CAPTION_COLUMNS if isinstance(row.get(column), str)), None)
    return None if name is None or caption is None else (name, caption)


def _read_csv(text: str) -> Iterator[Found]:
    """RFC 4180, by commas; or by semicolons or tabs, if the header is separated so (as spreadsheets do)."""
    header = next(io.StringIO(text, newline=None), "")[:MAX_METADATA_LINE_CHARS]
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns: list[str] | None = None
    try:
        for values in reader:
            if columns is None:
                columns = [value.strip().lower() for value in values]
                if _pick(dict.fromkeys(columns, "")) is None:
                    yield 0, _NO_HEADER
                    return
            elif any(value.strip() for value in values):
                found = _pick(dict(zip(columns, values, strict=False)))
                yield reader.line_num, found or "has no file_name or no caption"
    except csv.Error as error:
        yield reader.line_num, f"is not CSV ({error})"
