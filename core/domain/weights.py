"""Weights files: .safetensors, recognized by their contents, with an unambiguous header.

The library that opens these files accepts headers of 100 MB, any number of tensors, and of two equal keys the last.
If two readers can interpret one file differently, the harmless reading may be checked and the other one used; so
this module reads headers by stricter rules, before any library opens the file. It reads no tensor data.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from core.domain.counts import counted
from core.domain.errors import UnsupportedWeights, WeightsRejected

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 8 << 20
HEAD_BYTES = LENGTH_BYTES + MAX_HEADER_BYTES
"""A file's header must end within this many bytes."""
_MIN_HEAD_BYTES = 64
MAX_TENSORS = 20_000
MAX_DIMENSIONS = 8
MAX_ELEMENTS = 1 << 48

BITS_OF = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}

_METADATA = "__metadata__"
# A tensor has 20 at the most: five texts, three brackets, and commas between its eight sides and its fields. The rest
# is for metadata, whose texts may contain them. This bounds the parser's work for 8 MiB.
_MAX_MARKS = 25 * MAX_TENSORS
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_AGAIN = "Write it again with the safetensors library."
_FOREIGN = {
    b"PK": "a pickle in a ZIP archive, as torch.save writes",
    b"\x80": "a pickle",
    b"GGUF": "a quantised GGUF file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"version https://git-lfs": "the pointer that Git LFS leaves in place of a file",
}


@dataclass(frozen=True)
class Header:
    """By tensor name: ``dtypes`` in the format's words, ``shapes``. ``metadata`` is the author's."""

    dtypes: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def measure_head(start: bytes) -> int:
    """How many of a file's first bytes ``read_header`` needs; the argument has at least the first LENGTH_BYTES."""
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    return max(_MIN_HEAD_BYTES, LENGTH_BYTES + length if length <= MAX_HEADER_BYTES else 0)


def read_header(start: bytes, file_bytes: int) -> Header:
    """``start``: the first HEAD_BYTES of a file that has ``file_bytes``, or as many as ``measure_head`` says.

    Raises UnsupportedWeights for another format, WeightsRejected for a header that is broken or ambiguous.
    """
    if not start:
        raise WeightsRejected("The file is empty. Send it again.")
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    fits = length <= min(MAX_HEADER_BYTES, file_bytes - LENGTH_BYTES)
    kind = next((kind for magic, kind in _FOREIGN.items() if start.startswith(magic)), None)
    if start[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{" or (kind and not fits):
        raise UnsupportedWeights(
            f"The file is {kind or 'of another format'}, whatever its name says. Only .safetensors files are "
            "supported: formats that can run code when they are opened are not read."
        )
    if length > MAX_HEADER_BYTES:
        _reject(f"has a header of {length:,} bytes; the limit is {MAX_HEADER_BYTES:,}")
    if not fits:
        raise WeightsRejected("The file is cut short: its header describes a longer one. Send it again.")
    content = _parse(start[LENGTH_BYTES : LENGTH_BYTES + length])
    metadata = _read_metadata(content.pop(_METADATA, {}))
    if len(content) > MAX_TENSORS:
        _reject(f"has {len(content):,} tensors; the limit is {MAX_TENSORS:,}")
    tensors = [_read_tensor(name, entry) for name, entry in content.items()]
    _check_layout(tensors, file_bytes - LENGTH_BYTES - length)
    return Header({t.name: t.dtype for t in tensors}, {t.name: t.shape for t in tensors}, metadata)


def _reject(fault: str) -> NoReturn:
    raise WeightsRejected(f"The file {fault}. {_AGAIN}")


def _parse(text: bytes) -> dict[str, Any]:
    """Names and texts that JSON's escapes allow but UTF-8 cannot encode are invalid."""
    _bound_marks(text)
    try:
        content = json.loads(text.decode(), object_pairs_hook=_take_pairs, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        _reject("has a header that is not the JSON of the format")
    assert isinstance(content, dict), "it begins with a brace"
    return content


def _bound_marks(text: bytes) -> None:
    """Counts texts, and brackets and commas outside of them, until there are too many."""
    marks, end = 0, 0
    while (begin := text.find(b'"', end)) >= 0:
        if not (found := _TEXT.match(text, begin)):
            _reject("has a header that is not the JSON of the format")
        marks += 1 + _count_marks(text, end, begin)
        if marks > _MAX_MARKS:
            break
        end = found.end()
    if marks + _count_marks(text, end, len(text)) > _MAX_MARKS:
        _reject(f"has more than {MAX_TENSORS:,} tensors, or a header that is not a list of tensors")


def _count_marks(text: bytes, begin: int, end: int) -> int:
    return sum(text.count(mark, begin, end) for mark in (b",", b"{", b"["))


def _take_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        _reject("has duplicate keys in its header, which readers interpret differently")
    for name in found:
        name.encode()
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _read_metadata(metadata: object) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _reject("has metadata that is not text")
    try:
        for value in metadata.values():
            value.encode()
    except UnicodeEncodeError:
        _reject("has metadata that is not text")
    return metadata


def _read_tensor(name: str, entry: object) -> _Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        _reject(f"has other fields for {_show(name)} than its type, shape and offsets")
    dtype, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS_OF:
        _reject(f"has {_show(name)} in an unknown type")
    if not _is_sizes(shape) or len(shape) > MAX_DIMENSIONS or math.prod(max(1, side) for side in shape) > MAX_ELEMENTS:
        _reject(f"has {_show(name)} with an invalid shape")
    if not _is_sizes(place) or len(place) != 2:
        _reject(f"has {_show(name)} without valid offsets")
    if 8 * (place[1] - place[0]) != math.prod(shape) * BITS_OF[dtype]:
        _reject(f"has {_show(name)} with offsets that do not match its shape")
    return _Tensor(name, dtype, tuple(shape), place[0], place[1])


def _is_sizes(values: object) -> bool:
    """JSON's true is an integer to Python."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= MAX_ELEMENTS for value in values)


def _check_layout(tensors: Iterable[_Tensor], data_bytes: int) -> None:
    """One after the other, to the end of the file: no byte is read twice, and no byte is unused."""
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin < end:
            _reject(f"has {_show(tensor.name)} overlapping another tensor")
        if tensor.begin > end:
            _reject(f"has unused bytes before {_show(tensor.name)}")
        end = tensor.end
    if end > data_bytes:
        raise WeightsRejected("The file is cut short: its header describes a longer one. Send it again.")
    if end < data_bytes:
        _reject(f"has {counted(data_bytes - end, 'byte')} after its last tensor")


def _show(name: str) -> str:
    """Messages contain names that may be hostile."""
    return '"' + "".join(char if char.isprintable() else "?" for char in name[:80]) + '"'
