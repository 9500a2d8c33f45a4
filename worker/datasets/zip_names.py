"""The names of a ZIP's entries.

By the flag for UTF-8, else by Info-ZIP's Unicode path field, else by a guess from all the other names together.
"""

import struct
import zipfile
import zlib
from collections.abc import Sequence

from worker.datasets.name_encodings import STANDARD, Guess, decode_names

_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075


def read_zip_names(infos: Sequence[zipfile.ZipInfo]) -> Guess:
    """One name for each entry, whole: zipfile itself cuts at a NUL."""
    stated = [_stated_name(info) for info in infos]
    raw = [_raw_name(info) for info, name in zip(infos, stated, strict=True) if name is None]
    guess = decode_names(raw)
    guessed = iter(guess.names)
    return Guess(tuple(next(guessed) if name is None else name for name in stated), guess.label)


def _stated_name(info: zipfile.ZipInfo) -> str | None:
    if info.flag_bits & _UTF8_FLAG:
        return info.orig_filename
    return _read_unicode_path(info.extra, _raw_name(info))


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    """As stored in the file: zipfile decodes by the standard's code page, which loses nothing."""
    return info.orig_filename.encode(STANDARD)


def _read_unicode_path(extra: bytes, raw_name: bytes) -> str | None:
    """As in APPNOTE.TXT 6.3.10, 4.6.9: version 1, the CRC-32 of the original name, and the name in UTF-8.

    A field with another checksum is a remnant from before the entry was renamed, and does not count.
    """
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(field) == size > 5:
            version, checksum = struct.unpack("<BL", field[:5])
            if version == 1 and checksum == zlib.crc32(raw_name):
                return _decode(field[5:])
    return None


def _decode(name: bytes) -> str | None:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None
