"""Any caption files at all become captions that can be kept and shown, or a word on what is wrong with them."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from core.domain.dataset import MAX_CAPTION_CHARS, clean_caption
from tests.hostile.fuzzing import fuzz
from worker.datasets.captions import decode_text, read_captions

IMAGES = ["a.png", "one/a.png", "b.jpg", "set.zip/c.png"]
NAMES = st.sampled_from([*IMAGES, "d.png", "", "..", "/", "one/../a.png", "a.png/", "one//a.png", "\ud800.png"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2),
)
ROWS = st.fixed_dictionaries({"file_name": NAMES | VALUES, "text": st.text(max_size=40) | VALUES}).map(json.dumps)
LINES = (
    ROWS
    | ROWS
    | VALUES.map(json.dumps)
    | st.text(max_size=20)
    | st.sampled_from(["{", "[" * 99_999, "1" * 5000, '{"a":'])
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "utf-32"])
BREAKS = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\u2028", ""])


@st.composite
def metadata_files(draw: st.DrawFn) -> bytes:
    text = draw(st.sampled_from(["", "file_name,text\n", "file_name;caption;x\r\n"])) + draw(BREAKS).join(
        draw(st.lists(LINES, max_size=5))
    )
    data = bytearray(text.encode(draw(ENCODINGS), "replace"))
    for at in draw(st.lists(st.integers(0, max(0, len(data) - 1)), max_size=2)) if data else ():
        data[at] = draw(st.integers(0, 255))
    return bytes(data)


def check_caption(caption: str | None) -> None:
    if caption is not None:
        assert 0 < len(caption) <= MAX_CAPTION_CHARS and "\0" not in caption
        assert caption.splitlines() == [caption] and caption == caption.strip()
        caption.encode("utf-8")


METADATA = ["metadata.jsonl", "one/metadata.jsonl", "set.zip/metadata.csv"]
FILES = st.dictionaries(st.sampled_from(METADATA), metadata_files(), max_size=2)
TEXTS = st.dictionaries(
    st.sampled_from(["a.txt", "one/a.txt", "b.txt", "b.caption", "z.txt"]), st.binary(max_size=60), max_size=4
)


@fuzz
@given(files=FILES, texts=TEXTS)
def test_any_captions(files: dict[str, bytes], texts: dict[str, bytes]) -> None:
    found = read_captions(IMAGES, texts, files, {"set.zip/": "set.zip"})
    assert set(found.problems) <= set(files)
    assert all(problem.endswith(".") and len(problem) < 500 for problem in found.problems.values())
    paired = found.pairing.captions
    assert set(paired) == set(IMAGES) and set(found.pairing.unused) <= set(texts)
    "".join(word for doubt in found.doubts for word in (doubt.message, *doubt.files)).encode()
    for caption in paired.values():
        check_caption(caption)


@fuzz
@given(data=st.binary(max_size=300) | st.text(max_size=200).map(lambda text: (text * 40).encode("utf-16")))
@example((b"x" * (MAX_CAPTION_CHARS - 1)) + b" y")
def test_any_text(data: bytes) -> None:
    check_caption(clean_caption(decode_text(data)))
