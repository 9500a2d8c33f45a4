"""A multipart/form-data body (RFC 7578, RFC 2046) as a stream of events: no part is ever held in memory or on disk."""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from app.multipart_headers import parse_parameters, read_disposition
from core.domain.errors import InvalidRequest, TooLarge

MAX_BOUNDARY_BYTES = 70
"""RFC 2046, 5.1.1."""
MAX_HEADERS_BYTES = 16 << 10
MAX_HEADERS = 32
MAX_PREAMBLE_BYTES = 64 << 10
"""Before the first boundary, where everything is ignored."""
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# The rest of a boundary's line: two hyphens for the last, else only white space.
_LINE_END = re.compile(rb"--|[ \t]{0,1000}\r\n")
_MAYBE_LINE_END = re.compile(rb"-?|[ \t]{0,1000}\r?")


@dataclass(frozen=True)
class PartStart:
    """``filename`` is None for a plain field."""

    field: str
    filename: str | None


@dataclass(frozen=True)
class PartData:
    data: bytes


@dataclass(frozen=True)
class PartEnd:
    pass


Event = PartStart | PartData | PartEnd


class _State(Enum):
    PREAMBLE = auto()
    HEADERS = auto()
    DATA = auto()
    EPILOGUE = auto()


class _Parser:
    """Takes the body in pieces of any size, returns the certain events, and keeps the rest: a possible boundary, or
    headers that have not ended."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._rest = b"\r\n"  # the first boundary may be at the very start, with no line end before it
        self._state = _State.PREAMBLE
        self._num_skipped = 0
        self._steps = {
            _State.PREAMBLE: self._skip_preamble,
            _State.HEADERS: self._read_headers,
            _State.DATA: self._read_data,
        }

    @property
    def ended(self) -> bool:
        return self._state is _State.EPILOGUE

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Raises InvalidRequest."""
        self._rest += chunk
        while not self.ended:
            before = self._rest
            yield from self._steps[self._state]()
            if self._rest is before:
                return
        self._rest = b""  # the epilogue is ignored

    def _skip_preamble(self) -> Iterator[Event]:
        self._num_skipped += len(self._pass_boundary())
        if self._num_skipped > MAX_PREAMBLE_BYTES:
            raise InvalidRequest(
                "The multipart body does not begin with the boundary that its Content-Type names. Let your HTTP "
                "library set both."
            )
        yield from ()

    def _read_data(self) -> Iterator[Event]:
        if data := self._pass_boundary():
            yield PartData(data)
        if self._state is not _State.DATA:
            yield PartEnd()

    def _read_headers(self) -> Iterator[Event]:
        """``_rest`` begins with the end of the boundary's line, so that there may be none."""
        end = self._rest.find(b"\r\n\r\n")
        if max(end, len(self._rest) if end < 0 else 0) > MAX_HEADERS_BYTES:
            raise InvalidRequest(f"The headers of a part are longer than {MAX_HEADERS_BYTES:,} bytes.")
        if end >= 0:
            block, self._rest, self._state = self._rest[:end], self._rest[end + 4 :], _State.DATA
            yield _start_part(block)

    def _pass_boundary(self) -> bytes:
        """The data before the next boundary, which is consumed too, or as much as certainly does not belong to one."""
        start = 0
        while (at := self._rest.find(self._delimiter, start)) >= 0:
            behind = at + len(self._delimiter)
            if found := _LINE_END.match(self._rest, behind):
                data = self._rest[:at]
                self._state = _State.EPILOGUE if found[0] == b"--" else _State.HEADERS
                self._rest = self._rest[found.end() if self.ended else found.end() - 2 :]
                return data
            if _MAYBE_LINE_END.fullmatch(self._rest, behind):
                return self._keep_from(at)
            start = at + 1  # only a line that begins as the boundary does
        return self._keep_from(max(0, len(self._rest) - len(self._delimiter) + 1))

    def _keep_from(self, at: int) -> bytes:
        if at == 0:
            return b""
        data, self._rest = self._rest[:at], self._rest[at:]
        return data


def _start_part(block: bytes) -> PartStart:
    """``block``: lines of headers, each after the end of a line. Raises InvalidRequest."""
    lines = re.sub(rb"\r\n[ \t]+", b" ", block).split(b"\r\n")[1:]  # a line that begins with a space goes on
    if len(lines) > MAX_HEADERS:
        raise InvalidRequest(f"A part of the multipart body has more than {MAX_HEADERS} headers.")
    disposition = b""
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise InvalidRequest(f"The multipart body is malformed: {line[:40]!a} is not a header.")
        if name.lower() == b"content-disposition":
            disposition = value
    return PartStart(*read_disposition(disposition))


async def read_events(body: AsyncIterator[bytes], content_type: str) -> AsyncIterator[Event]:
    """Raises InvalidRequest for a body that does not match its Content-Type, or ends early."""
    boundary = parse_parameters(content_type.encode("latin-1", "replace")).get("boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise InvalidRequest(
            f"The Content-Type multipart/form-data lacks its boundary of at most {MAX_BOUNDARY_BYTES} characters; "
            "let your HTTP library set it."
        )
    parser = _Parser(boundary)
    async for chunk in body:
        for event in parser.feed(chunk):
            yield event
    if not parser.ended:
        raise InvalidRequest("The multipart body ends before its last boundary; send it again, whole.")


async def data_of(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """The bytes of the part whose start was just read, to its end."""
    async for event in events:
        if not isinstance(event, PartData):
            return
        yield event.data


async def read_field(name: str, chunks: AsyncIterator[bytes], max_bytes: int) -> bytes:
    """A plain field's value. Raises TooLarge."""
    value = b""
    async for chunk in chunks:
        value += chunk
        if len(value) > max_bytes:
            raise TooLarge(f"The field {name[:80]!r} is longer than {max_bytes} bytes.")
    return value
