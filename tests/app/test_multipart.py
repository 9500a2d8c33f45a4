"""The multipart reader gives the same parts however the body is cut, and never more of it than one chunk."""

import asyncio
import itertools
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
