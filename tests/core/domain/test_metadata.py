"""What metadata.jsonl and metadata.csv give, in the forms in which people write them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.metadata import MAX_METADATA_ROWS, is_metadata_name, read_metadata


def read(text: str, source: str = "metadata.jsonl") -> dict[str, str]:
    rows, problems = read_metadata(source, text)
    assert problems == []
    return {row.file_name: row.caption for row in rows}


def test_lines_that_are_not_captions_are_named() -> None:
    lines = [json.dumps({"file_name": "a.png", "text": "one"}), "", "rubbish", '["a"]', '{"file_name": 1, "text": "x"}']
    rows, problems = read_metadata("metadata.jsonl", "\n".join(lines))
    assert [(row.source, row.line, row.file_name, row.caption) for row in rows] == [
        ("metadata.jsonl", 1, "a.png", "one")
    ]
    assert [problem.split()[1] for problem in problems] == ["3", "4", "5"]


@pytest.mark.parametrize("column", ["text", "caption", "prompt"])
def test_a_caption_may_stand_in_any_of_the_usual_columns(column: str) -> None:
    assert read(json.dumps({"file_name": "a.png", column: "a toy", "other": 1})) == {"a.png": "a toy"}
    assert read(f"id,{column},file_name\n7,a toy,a.png\n", "metadata.csv") == {"a.png": "a toy"}


def test_of_several_columns_the_first_in_order_counts() -> None:
    assert read(json.dumps({"file_name": "a", "prompt": "p", "caption": "c", "text": "t"})) == {"a": "t"}
    assert read("prompt,caption,file_name\np,c,a\n", "metadata.csv") == {"a": "c"}
    assert read(json.dumps({"file_name": "a", "text": None, "prompt": "p"})) == {"a": "p"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_is_read_however_spreadsheets_separate_it(delimiter: str) -> None:
    rows = [["file_name", "text"], ["a.png", '"one, two; ""three"""'], ["b.png", '"over\r\ntwo lines"'], ["", ""]]
    text = "\r\n".join(delimiter.join(row) for row in rows)
    assert read(text, "metadata.csv") == {"a.png": 'one, two; "three"', "b.png": "over\r\ntwo lines"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a.png,a toy\n", "line 1 does not name the columns file_name and text (or caption, or prompt)"),
        ("file_name,text\na.png\n", "line 2 has no file_name or no caption"),
        ("file_name,text\na.png," + "x" * 200_000, "line 2 is not CSV (field larger than field limit (131072))"),
    ],
)
def test_problems_of_a_csv_name_the_line(text: str, problem: str) -> None:
    assert read_metadata("metadata.csv", text) == ([], [problem])


def test_after_so_many_rows_the_rest_is_not_read() -> None:
    line = json.dumps({"file_name": "a", "text": "b"}) + "\n"
    rows, problems = read_metadata("metadata.jsonl", line * (MAX_METADATA_ROWS + 5))
    assert len(rows) == MAX_METADATA_ROWS
    assert problems == ["it has more than 50,000 rows: the rest was not read"]
    assert read_metadata("metadata.jsonl", line * MAX_METADATA_ROWS)[1] == []


def test_both_kinds_of_metadata_are_known_by_name() -> None:
    names = ["metadata.jsonl", "a/metadata.csv", "METADATA.CSV", "metadata.json", "my_metadata.csv", "metadata.csv.txt"]
    assert [is_metadata_name(name) for name in names] == [True, True, True, False, False, False]


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    for source in ("metadata.jsonl", "metadata.csv"):
        rows, problems = read_metadata(source, text)
        assert all(row.source == source for row in rows) and all(isinstance(problem, str) for problem in problems)
