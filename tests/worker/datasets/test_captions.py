import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.dataset import clean_caption, pair_captions
from worker.datasets.captions import MAX_METADATA_BYTES, decode_text, read_metadata_files


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("a blip é".encode(), "a blip é"),
        ("a blip é".encode("utf-8-sig"), "a blip é"),
        ("a blip é".encode("utf-16"), "a blip é"),
        (b"\xfe\xff" + "a blip é".encode("utf-16-be"), "a blip é"),
        ("a “blip” é".encode("cp1252"), "a “blip” é"),
        (b"", ""),
        (b"\x81", "\ufffd"),
    ],
)
def test_any_encoding_that_people_use(data: bytes, text: str) -> None:
    assert decode_text(data) == text


@given(st.binary())
def test_any_bytes_give_a_caption_that_can_be_stored(data: bytes) -> None:
    caption = clean_caption(decode_text(data))
    assert caption is None or (caption.encode("utf-8") and "\0" not in caption)


@given(st.binary())
def test_any_bytes_as_metadata(data: bytes) -> None:
    captions, _ = read_metadata_files({"metadata.jsonl": data})
    for text in captions.values():
        text.encode("utf-8")


def row(name: str, text: str) -> bytes:
    return json.dumps({"file_name": name, "text": text}).encode() + b"\n"


def test_file_names_are_relative_to_their_metadata() -> None:
    files = {"one/metadata.jsonl": row("a.png", "first"), "two/metadata.jsonl": row("a.png", "second")}
    captions, problems = read_metadata_files(files)
    paired, _ = pair_captions(["one/a.png", "two/a.png"], {}, captions)

    assert paired == {"one/a.png": "first", "two/a.png": "second"}
    assert problems == {}


def test_loose_metadata_finds_images_by_their_last_name() -> None:
    captions, _ = read_metadata_files({"metadata.jsonl": row("a.png", "found")})

    assert pair_captions(["set.zip/blip/a.png"], {}, captions)[0] == {"set.zip/blip/a.png": "found"}


@pytest.mark.parametrize(
    "name", ["img/m\N{LATIN SMALL LETTER U WITH DIAERESIS}.png", "img/mu\N{COMBINING DIAERESIS}.png"]
)
@pytest.mark.parametrize(
    "written", ["img/m\N{LATIN SMALL LETTER U WITH DIAERESIS}.png", "img\\mu\N{COMBINING DIAERESIS}.png"]
)
def test_names_are_the_same_however_a_system_spells_them(name: str, written: str) -> None:
    captions, _ = read_metadata_files({"metadata.jsonl": row(written, "found")})

    assert pair_captions([name], {}, captions)[0] == {name: "found"}


def test_a_lone_surrogate_becomes_something_that_can_be_stored() -> None:
    captions, _ = read_metadata_files({"metadata.jsonl": rb'{"file_name": "a.png", "text": "x\ud800y"}'})

    assert captions == {"a.png": "x?y"}


def test_problems_are_told_by_line_and_shortened() -> None:
    bad = b"nonsense\n" + row("a.png", "fine") + b'{"file_name": 1}\n[]\n"x"\n'
    captions, problems = read_metadata_files({"metadata.jsonl": bad})

    assert captions == {"a.png": "fine"}
    assert problems["metadata.jsonl"].startswith("line 1 is not a JSON object")
    assert problems["metadata.jsonl"].endswith("; and 1 more.")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"x\n", "line 1 is"),
        (b"\r\n", ""),
        (b"[" + b"{}," * (MAX_METADATA_BYTES // 3 - 10) + b"{}]", "line 1 is"),
        (b'{"file_name":"a.png","text":"' + b"x" * (MAX_METADATA_BYTES - 40) + b'"}', "line 1 is"),
        (b'{"a":' * 3_000_000, "line 1 is"),
    ],
    ids=["wrong lines", "empty lines", "a list", "a long text", "nested without end"],
)
def test_a_file_as_large_as_it_may_be_takes_little_memory(line: bytes, words: str) -> None:
    """Sixteen mebibytes of wrong lines once took a gigabyte, and half a minute."""
    data = (line * (MAX_METADATA_BYTES // len(line)))[:MAX_METADATA_BYTES]
    tracemalloc.start()
    captions, problems = read_metadata_files({"metadata.jsonl": data})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert captions == {} and problems.get("metadata.jsonl", "").startswith(words)
    assert peak < 8 * MAX_METADATA_BYTES


def test_after_a_hundred_wrong_lines_a_file_is_not_read_on() -> None:
    captions, problems = read_metadata_files({"metadata.jsonl": b"nonsense\n" * 100 + row("a.png", "late")})

    assert captions == {}
    assert problems["metadata.jsonl"].endswith("; and 97 more, after which it was not read on.")
