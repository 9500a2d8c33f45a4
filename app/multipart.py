"""A multipart/form-data body (RFC 7578) as a stream of events: no part is ever held in memory or on disk."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from core.domain.errors import InvalidRequest, TooLarge


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


class _Collector:
    """Takes the parser's callbacks, gives events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ended = False
        self._name = b""
        self._value = b""
        self._headers: dict[str, str] = {}

    def on_part_begin(self) -> None:
        self._headers = {}

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name = self._value = b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition"))
        filename = options.get(b"filename")
        self.events.append(
            PartStart(_decode(options.get(b"name", b"")), None if filename is None else _decode(filename))
        )

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.events.append(PartData(data[start:end]))

    def on_part_end(self) -> None:
        self.events.append(PartEnd())

    def on_end(self) -> None:
        self.ended = True

    def take(self) -> list[Event]:
        events, self.events = self.events, []
        return events


async def read_events(body: AsyncIterator[bytes], content_type: str) -> AsyncIterator[Event]:
    """Raises InvalidRequest for a body that is not as its Content-Type says, or stops early."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise InvalidRequest("The Content-Type multipart/form-data lacks its boundary; let your HTTP library set it.")
    collector = _Collector()
    try:
        callbacks = {name: getattr(collector, name) for name in dir(collector) if name.startswith("on_")}
        parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        async for chunk in body:
            parser.write(chunk)
            for event in collector.take():
                yield event
    except FormParserError as error:
        raise InvalidRequest(f"The multipart body is malformed: {error}.") from error
    if not collector.ended:
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


def _decode(value: bytes) -> str:
    """Browsers and libraries send UTF-8, which was read as latin-1 on the way. Raises InvalidRequest."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"The name {value[:80]!r} is not UTF-8; rename the file or field.") from None
