import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.dataset import clean_caption
from core.domain.metadata import MAX_METADATA_ROWS, Row
from worker.datasets import captions
from worker.datasets.captions import MAX_METADATA_BYTES, decode_text, read_captions, read_metadata_files


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


@pytest.mark.parametrize(
    ("encoding", "texts"),
    [
        ("cp1251", ["рыжий кот на столе", "кот", "чёрная собака под деревом"]),
        ("cp1251", ["кот", "пёс", "дом"]),
        ("cp1253", ["μια γάτα πάνω στο τραπέζι", "ένας σκύλος"]),
        ("koi8_r", ["рыжий кот на столе", "чёрная собака под деревом"]),
        ("cp932", ["青い帽子をかぶった女の子", "猫", "テーブルの上のおもちゃ"]),
        ("gb18030", ["一只红色的猫在桌子上", "红色的猫", "戴着蓝色帽子的女孩"]),
        ("big5", ["一隻紅色的貓在桌子上", "戴著藍色帽子的女孩"]),
        ("cp949", ["빨간 모자를 쓴 고양이", "탁자 위의 장난감"]),
        ("cp1252", ["ein Käfer auf grünem Gras", "a “blip” é", "naïve café"]),
        ("utf-16-le", ["a blip on a table", "é"]),
        ("utf-32", ["a blip", "猫"]),
    ],
)
def test_the_encoding_is_guessed_from_all_captions_together(encoding: str, texts: list[str]) -> None:
    images = [f"{number}.png" for number in range(len(texts))]
    files = {f"{number}.txt": text.encode(encoding) for number, text in enumerate(texts)}
    found = read_captions(images, files, {}, {})

    assert list(found.pairing.captions.values()) == texts
    codes = [doubt.code for doubt in found.doubts]
    assert codes == ([] if encoding.startswith("utf") else ["caption-encoding"])


def test_a_guess_names_its_files_and_leaves_the_others_alone() -> None:
    files = {"a.txt": "кот".encode("cp1251"), "b.txt": "рыжий кот на столе".encode("cp1251"), "c.txt": "кот".encode()}
    found = read_captions(["a.png", "b.png", "c.png"], files, {}, {})

    assert found.pairing.captions == {"a.png": "кот", "b.png": "рыжий кот на столе", "c.png": "кот"}
    assert [(doubt.code, doubt.files) for doubt in found.doubts] == [("caption-encoding", ("a.txt", "b.txt"))]
    assert "Windows-1251 (Cyrillic)" in found.doubts[0].message


@given(st.binary())
def test_any_bytes_as_metadata(data: bytes) -> None:
    for name in ("metadata.jsonl", "metadata.csv"):
        rows, _ = read_metadata_files({name: data})
        for row in rows:
            row.caption.encode("utf-8")
            row.file_name.encode("utf-8")


def row(name: str, text: str) -> bytes:
    return json.dumps({"file_name": name, "text": text}).encode() + b"\n"


def captions_of(rows: list[Row]) -> dict[str, str]:
    return {row.file_name: row.caption for row in rows}


def test_a_lone_surrogate_becomes_something_that_can_be_stored() -> None:
    rows, _ = read_metadata_files({"metadata.jsonl": rb'{"file_name": "a.png", "text": "x\ud800y"}'})

    assert captions_of(rows) == {"a.png": "x?y"}


def test_a_nul_becomes_something_that_can_be_stored() -> None:
    rows, _ = read_metadata_files({"metadata.jsonl": row("b\0.png", "a\0b")})
    assert rows[0].file_name == "b .png" and "\0" not in rows[0].caption


def test_problems_name_the_line_and_are_shortened() -> None:
    bad = b"nonsense\n" + row("a.png", "fine") + b'{"file_name": 1}\n[]\n"x"\n'
    rows, problems = read_metadata_files({"metadata.jsonl": bad})

    assert captions_of(rows) == {"a.png": "fine"}
    assert problems["metadata.jsonl"].startswith("line 1 is not a JSON object")
    assert problems["metadata.jsonl"].endswith("; and 1 more.")


def test_rows_that_caption_nothing_are_listed_up_to_a_bound() -> None:
    lines = b"".join(row(f"{number}.png", "x") for number in range(250))
    found = read_captions(["a.png"], {}, {"metadata.jsonl": lines + row("A.PNG", "guessed")}, {})

    unmatched, guessed = found.doubts
    assert (unmatched.code, len(unmatched.files)) == ("unmatched-rows", 100)
    assert unmatched.message.startswith("250 rows of metadata files match no image.")
    assert unmatched.files[0] == "metadata.jsonl, line 1: 0.png (no image of the set has this path)"
    assert guessed.message.startswith("1 row of metadata files matches no image by path; the only similar one")
    assert (guessed.code, guessed.files) == ("guessed-rows", ("metadata.jsonl, line 251: A.PNG -> a.png",))


def test_all_metadata_files_together_have_so_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "MAX_METADATA_ROWS", 3)
    files = {f"{number}/metadata.jsonl": row("a.png", "x") * 2 for number in range(2)}
    rows, problems = read_metadata_files(files)

    assert [row.source for row in rows] == ["0/metadata.jsonl"] * 2 + ["1/metadata.jsonl"]
    assert "more than 3 rows" in problems["1/metadata.jsonl"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"x\n", "line 1 is"),
        (b"\r\n", ""),
        (b"[" + b"{}," * (MAX_METADATA_BYTES // 3 - 10) + b"{}]", "line 1 is"),
        (b'{"file_name":"a.png","text":"' + b"x" * (MAX_METADATA_BYTES - 40) + b'"}', "line 1 is"),
        (b'{"a":' * 3_000_000, "line 1 is"),
        (row("a", "b"), "it has more than 50,000 rows"),
    ],
    ids=["wrong lines", "empty lines", "a list", "a long text", "nested without end", "short rows"],
)
def test_a_file_as_large_as_it_may_be_takes_little_memory(line: bytes, words: str) -> None:
    """Sixteen mebibytes of wrong lines once took a gigabyte, and half a minute."""
    data = (line * (MAX_METADATA_BYTES // len(line)))[:MAX_METADATA_BYTES]
    tracemalloc.start()
    rows, problems = read_metadata_files({"metadata.jsonl": data})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) in (0, MAX_METADATA_ROWS) and problems.get("metadata.jsonl", "").startswith(words)
    assert peak < 8 * MAX_METADATA_BYTES


def test_after_a_hundred_wrong_lines_a_file_is_not_read_on() -> None:
    rows, problems = read_metadata_files({"metadata.jsonl": b"nonsense\n" * 100 + row("a.png", "late")})

    assert rows == []
    assert problems["metadata.jsonl"].endswith("; and 97 more, after which reading stopped.")
