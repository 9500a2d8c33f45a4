"""A job's metrics as files: a table of comma-separated values, and TensorBoard's event file."""

import csv
import io
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from app.database import Database
from core.db import job_outputs
from core.db.tables import JobMetric

ROWS_AT_ONCE = 5_000
COLUMNS = ("step", "attempt", "loss", "validation_loss", "learning_rate", "seconds_per_step")
TAGS = {"loss": "loss/train", "validation_loss": "loss/validation", "learning_rate": "learning_rate"}
"""A metric's name -> its tag in TensorBoard."""

Encode = Callable[[Sequence[JobMetric]], bytes]


async def stream_metrics(database: Database, job_id: str, head: bytes, encode: Encode) -> AsyncIterator[bytes]:
    """``head``, then the rows some thousand at a time: a job may have a hundred thousand steps."""
    yield head
    after_step, has_more = -1, True
    while has_more:
        rows, has_more = await database.run(_read, job_id, after_step)
        if rows:
            after_step = rows[-1].step
            yield encode(rows)


def _read(session: Session, job_id: str, after_step: int) -> tuple[list[JobMetric], bool]:
    return job_outputs.page_metrics(session, job_id, after_step=after_step, limit=ROWS_AT_ONCE)


def write_heading() -> bytes:
    return _to_csv([COLUMNS])


def write_rows(rows: Sequence[JobMetric]) -> bytes:
    return _to_csv([[getattr(row, name) for name in COLUMNS] for row in rows])


def _to_csv(rows: Sequence[Sequence[object]]) -> bytes:
    """By RFC 4180; an empty field is a value that was not measured."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


# --- TensorBoard: TFRecords of tensorflow.Event (tensorboard/compat/proto/event.proto and summary.proto) ----------
#
# Three fields of each message are all that scalars need, so they are written here: TensorBoard's own writer needs
# protobuf and numpy, and writes to paths under the host's name. A number in front of each field is its number there.


class EventWriter:
    """Steps have no time of their own: each is placed by the steps' durations, from the job's first start on."""

    def __init__(self, started_at: datetime) -> None:
        self._seconds = started_at.timestamp()

    def write_version(self) -> bytes:
        return _to_record(_number(1, self._seconds) + _bytes(3, b"brain.Event:2"))

    def write_rows(self, rows: Sequence[JobMetric]) -> bytes:
        return b"".join(record for row in rows for record in self._write_row(row))

    def _write_row(self, row: JobMetric) -> Iterator[bytes]:
        self._seconds += row.seconds_per_step
        values = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + _float(2, value))
            for name, tag in TAGS.items()
            if (value := getattr(row, name)) is not None
        )
        yield _to_record(_number(1, self._seconds) + _integer(2, row.step) + _bytes(5, values))


def _to_record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _to_checksum(length) + data + _to_checksum(data)


def _to_checksum(data: bytes) -> bytes:
    """CRC-32C, masked as in TFRecords, since they may contain checksums themselves."""
    crc = _crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _number(field: int, value: float) -> bytes:
    return bytes([field << 3 | 1]) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return bytes([field << 3 | 5]) + struct.pack("<f", value)


def _integer(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Protobuf's: seven bits a byte, the lowest first."""
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _make_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _make_table()


def _crc32c(data: bytes) -> int:
    """Castagnoli's (RFC 3720, appendix B.4); zlib has another polynomial."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
