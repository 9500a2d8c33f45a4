"""The multipart reader gives the same parts however the body is cut, and never more of it than one chunk."""

import asyncio
import itertools
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.multipart import PartData, PartEnd, PartStart, read_events
from core.domain.errors import InvalidRequest

CONTENT_TYPE = "multipart/form-data; boundary=frontier"

Part = tuple[str, str | None, bytes]


def write_body(parts: list[Part]) -> bytes:
    body = b""
    for field, filename, content in parts:
        name = f'; filename="{filename}"' if filename is not None else ""
        body += f'--frontier\r\nContent-Disposition: form-data; name="{field}"{name}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + b"--frontier--\r\n"


async def read_parts(chunks: Iterator[bytes], content_type: str = CONTENT_TYPE) -> list[Part]:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    parts: list[Part] = []
    async for event in read_events(stream(), content_type):
        match event:
            case PartStart(field, filename):
                parts.append((field, filename, b""))
            case PartData(data):
                parts[-1] = (*parts[-1][:2], parts[-1][2] + data)
            case PartEnd():
                pass
    return parts


def cut(body: bytes, places: list[int]) -> Iterator[bytes]:
    edges = sorted({0, len(body), *(place % len(body) for place in places)})
    return (body[start:end] for start, end in itertools.pairwise(edges))


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters='"\\\r\n;%', exclude_categories=["Cc", "Cs"]), min_size=1
)
CONTENTS = st.one_of(
    st.binary(max_size=300), st.sampled_from([b"\r\n--frontie", b"\r\n--frontierr", b"--", b"\r", b"\r\n\r\n", b""])
)


@given(
    parts=st.lists(st.tuples(st.sampled_from(["files", "name"]), st.none() | NAMES, CONTENTS), max_size=5),
    places=st.lists(st.integers(0, 10**6), max_size=20),
)
def test_parts_are_the_same_however_the_body_is_cut(parts: list[Part], places: list[int]) -> None:
    body = write_body(parts)
    assert asyncio.run(read_parts(cut(body, places))) == parts


@given(body=st.binary(max_size=500), places=st.lists(st.integers(0, 10**6), max_size=5))
def test_any_bytes_are_parts_or_an_error_of_ours(body: bytes, places: list[int]) -> None:
    with suppress(InvalidRequest):
        asyncio.run(read_parts(cut(b"--frontier\r\n" + body, places)))


@pytest.mark.parametrize("end", [5, 60, 90, -3, -6, -14])
def test_a_body_that_stops_early(end: int) -> None:
    body = write_body([("files", "a.png", b"0123456789")])
    with pytest.raises(InvalidRequest, match="ends before"):
        asyncio.run(read_parts(iter([body[:end]])))


def write_named(disposition: bytes) -> bytes:
    return b"--frontier\r\nContent-Disposition: form-data; " + disposition + b"\r\n\r\nx\r\n--frontier--\r\n"


CAFE = "caf\u00e9.png"
NAMES_AS_SENT: dict[str, tuple[bytes, str]] = {
    "browsers, curl, httpx: UTF-8": ('name="files"; filename="caf\u00e9.png"'.encode(), CAFE),
    ".NET: MIME words beside filename*": (
        b"name=files; filename=\"=?utf-8?B?Y2Fmw6kucG5n?=\"; filename*=utf-8''caf%C3%A9.png",
        CAFE,
    ),
    "MIME words alone, base64": (b'name="files"; filename="=?utf-8?B?Y2Fmw6kucG5n?="', CAFE),
    "MIME words alone, quoted": (b'name="files"; filename="=?UTF-8?Q?caf=C3=A9.png?="', CAFE),
    "MIME words in Latin-1": (b'name="files"; filename="=?iso-8859-1?q?caf=E9=2Epng?="', CAFE),
    "MIME words, two": (b'name="files"; filename="=?utf-8?B?Y2Fmw6k=?= =?utf-8?B?LnBuZw==?="', CAFE),
    "urllib3 before 1.25: filename* alone": (b"name=\"files\"; filename*=utf-8''caf%C3%A9.png", CAFE),
    "both, the better second": (b'name="files"; filename="cafe.png"; filename*=UTF-8\'\'caf%C3%A9.png', CAFE),
    "both, the better first": (b'name="files"; filename*=UTF-8\'en\'caf%C3%A9.png; filename="cafe.png"', CAFE),
    "filename* in Latin-1": (b"name=\"files\"; filename*=ISO-8859-1''caf%E9.png", CAFE),
    "filename* in quotation marks": (b'name="files"; filename*="UTF-8\'\'caf%C3%A9.png"', CAFE),
    "filename* without a charset": (b'name="files"; filename*="caf%C3%A9.png"', CAFE),
    "filename* that cannot be read, beside one that can": (
        b'name="files"; filename="cafe.png"; filename*=UTF-8\'\'caf%E9.png',
        "cafe.png",
    ),
    "filename* of an unknown charset, beside one that can": (
        b'name="files"; filename="cafe.png"; filename*=klingon\'\'caf%E9.png',
        "cafe.png",
    ),
    "continuations": (b"name=\"files\"; filename*0*=UTF-8''caf%C3; filename*1*=%A9; filename*2=.png", CAFE),
    "names without quotation marks": (b"name=files; filename=a.png", "a.png"),
    "space around the signs": (b'name = "files" ;filename = "a.png" ', "a.png"),
    "capitals": (b'NAME="files"; FileName="a.png"', "a.png"),
    "a quotation mark, as browsers send it": (b'name="files"; filename="a%22b.png"', 'a"b.png'),
    "a quotation mark, as old curl sends it": (b'name="files"; filename="a\\"b.png"', 'a"b.png'),
    "a line's end, as browsers send it": (b'name="files"; filename="Icon%0D"', "Icon\r"),
    "a percent sign stands for itself": (b'name="files"; filename="100%25 a%20b.png"', "100%25 a%20b.png"),
    "a semicolon": (b'name="files"; filename="a; b.png"', "a; b.png"),
    "a backslash": (b'name="files"; filename="a\\b.png"', "a\\b.png"),
    "a backslash said twice": (b'name="files"; filename="a\\\\b.png"', "a\\b.png"),
    "a path of Windows": (b'name="files"; filename="C:\\pictures\\a.png"', "a.png"),
    "a folder": (b'name="files"; filename="cats/a.png"', "cats/a.png"),
    "almost a MIME word": (b'name="files"; filename="=?utf-8?B?Y2Fm.png"', "=?utf-8?B?Y2Fm.png"),
    "a MIME word that is none": (b'name="files"; filename="=?klingon?B?Y2Fm?="', "=?klingon?B?Y2Fm?="),
    "a type before the name": (b'name="files"; filename="a.png"\r\nContent-Type: image/png', "a.png"),
    "a header on two lines": (b'name="files";\r\n filename="a.png"', "a.png"),
}


@pytest.mark.parametrize("client", NAMES_AS_SENT)
def test_file_names_as_clients_send_them(client: str) -> None:
    disposition, expected = NAMES_AS_SENT[client]
    body = write_named(disposition)
    for size in (len(body), 1, 7):
        pieces = (body[start : start + size] for start in range(0, len(body), size))
        assert asyncio.run(read_parts(pieces)) == [("files", expected, b"x")]


@pytest.mark.parametrize(
    ("disposition", "words"),
    [
        (b"name=\"files\"; filename*=UTF-8''caf%E9.png", "cannot be decoded as 'UTF-8'"),
        (b"name=\"files\"; filename*=klingon''a.png", "cannot be decoded as 'klingon'"),
        (b"name=\"files\"; filename*=undefined''x.png", "cannot be decoded as 'undefined'"),
        (b"name=\"files\"; filename*=unicode_escape''%5Cud800.png", "cannot be decoded as 'unicode_escape'"),
        (b"name=\"files\"; filename*=a\x00b''x.png", "cannot be decoded as"),
        (b'name="files"; filename="caf\xe9.png"', "is not UTF-8"),
        (b'name="files"; filename="a.png', "an unclosed quotation mark"),
        (b'name="files"\r\nno header', "is not a header"),
        (b'name="files"\r\n' + b"A: b\r\n" * 40 + b"C: d", "more than 32 headers"),
        (b'name="' + b"n" * 20_000 + b'"', "longer than 16,384 bytes"),
    ],
)
def test_headers_that_cannot_be_read(disposition: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        asyncio.run(read_parts(iter([write_named(disposition)])))


def test_unclosed_quotation_marks_cost_nothing() -> None:
    """Each would be looked for to the end of the header."""
    started = time.process_time()
    for unclosed in (b';a="' * 3_999, b';a="\\' * 2_999, b"; " * 7_999):
        with suppress(InvalidRequest):
            asyncio.run(read_parts(iter([write_named(b'name="files"' + unclosed)])))
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("preamble", "epilogue"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"This is a message in MIME format.\r\n", b"And that was it.\r\n"),
        (b"--frontie\r\n--frontierr\r\n", b'--frontier\r\nContent-Disposition: form-data; name="b"\r\n\r\n\r\n'),
        (b"x" * 50_000 + b"\r\n", bytes(300_000)),
    ],
)
@given(places=st.lists(st.integers(0, 10**6), max_size=8))
def test_what_stands_before_the_first_boundary_and_after_the_last_is_not_read(
    preamble: bytes, epilogue: bytes, places: list[int]
) -> None:
    parts: list[Part] = [("files", "a.png", b"0123\r\n456"), ("name", None, b"")]
    body = preamble + write_body(parts) + epilogue
    assert asyncio.run(read_parts(cut(body, places))) == parts


def test_white_space_may_follow_a_boundary() -> None:
    body = write_body([("files", "a.png", b"x"), ("name", None, b"y")]).replace(b"--frontier\r", b"--frontier \t \r")
    for size in (1, len(body)):
        pieces = (body[start : start + size] for start in range(0, len(body), size))
        assert asyncio.run(read_parts(pieces)) == [("files", "a.png", b"x"), ("name", None, b"y")]


def test_the_body_must_begin_within_reason() -> None:
    with pytest.raises(InvalidRequest, match="does not begin with the boundary"):
        asyncio.run(read_parts(iter([b"x" * 1000] * 100 + [write_body([])])))


@pytest.mark.parametrize(
    "content_type",
    [
        "Multipart/Form-Data; Boundary=frontier",
        'multipart/form-data; boundary="frontier"',
        "multipart/form-data;charset=utf-8;boundary=frontier",
        "multipart/form-data ; boundary = frontier",
    ],
)
def test_the_boundary_is_found_however_the_type_is_written(content_type: str) -> None:
    parts: list[Part] = [("files", "a.png", b"x")]
    assert asyncio.run(read_parts(iter([write_body(parts)]), content_type)) == parts


def test_little_is_kept_of_a_large_part() -> None:
    def stream() -> Iterator[bytes]:
        yield b'--frontier\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        for _ in range(500):
            yield b"\r\n--frontie" * 6_000

    async def largest() -> int:
        async def chunks() -> AsyncIterator[bytes]:
            for chunk in stream():
                yield chunk

        sizes = [0]
        with suppress(InvalidRequest):
            async for event in read_events(chunks(), CONTENT_TYPE):
                sizes.append(len(event.data) if isinstance(event, PartData) else 0)
        return max(sizes)

    tracemalloc.start()
    assert asyncio.run(largest()) < 100_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
