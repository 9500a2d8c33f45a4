"""Colour spaces that a file states by numbers (ITU-T H.273) instead of a profile: the ``nclx`` of HEIC and AVIF, and
PNG's cICP chunk. Those that differ from sRGB become ICC profiles, by which ``colours`` converts.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

HEAD_BYTES = 64 << 10
"""Both are before the pixels of a file."""
# Red, green and blue as XYZ, adapted from D65 to the D50 of profiles (Bradford).
_PRIMARIES: Mapping[int, tuple[tuple[float, float, float], ...]] = {
    9: ((0.67349, 0.27904, -0.00193), (0.16566, 0.67534, 0.02998), (0.12505, 0.04562, 0.79685)),  # BT.2020
    12: ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407)),  # Display P3
}
_SRGB_PRIMARIES = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141))
_LIKE_SRGB = frozenset({0, 1, 2, 3, 5, 6, 7})
"""Primaries: BT.709's own, unspecified, and those of old television, which are similar and mostly a mistake."""
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
# The curves of BT.709 and its family are those of cameras; displays show such images as sRGB.
_CURVES: Mapping[int, tuple[float, ...]] = {
    **dict.fromkeys((0, 1, 2, 3, 6, 13, 14, 15), _SRGB_CURVE),
    4: (2.2,),
    5: (2.8,),
    8: (1.0,),
}
_WHITE = (0.9642, 1.0, 0.8249)
_CICP = b"cICP"


@dataclass(frozen=True)
class CodedColours:
    """``profile`` is None if the colours are sRGB's; ``is_known`` False if they cannot be converted, such as those of
    high dynamic range."""

    profile: bytes | None = None
    is_known: bool = True


def read_coded_colours(head: bytes, kind: str) -> CodedColours:
    """``head``: the file's first HEAD_BYTES; ``kind``: Pillow's name of its format."""
    codes = _find_codes(head, kind)
    if codes is None:
        return CodedColours()
    primaries, transfer = codes
    curve = _CURVES.get(transfer)
    if curve is None or not (primaries in _PRIMARIES or primaries in _LIKE_SRGB):
        return CodedColours(is_known=False)
    if primaries in _LIKE_SRGB and curve == _SRGB_CURVE:
        return CodedColours()
    return CodedColours(_build_profile(_PRIMARIES.get(primaries, _SRGB_PRIMARIES), curve))


def _find_codes(head: bytes, kind: str) -> tuple[int, int] | None:
    """Colour primaries and transfer characteristics."""
    mark, layout = (_CICP, ">BB") if kind == "PNG" else (b"colrnclx", ">HH")
    at = head.find(mark) if kind in {"PNG", "HEIF", "AVIF"} else -1
    if at < 0 or len(head) < at + len(mark) + 4 or (kind == "PNG" and head[at - 4 : at] != b"\0\0\0\4"):
        return None
    primaries, transfer = struct.unpack_from(layout, head, at + len(mark))
    return primaries, transfer


def _build_profile(primaries: tuple[tuple[float, float, float], ...], curve: tuple[float, ...]) -> bytes:
    """A display profile, of three colours and one curve (ICC.1:2022, 8.3.3)."""
    columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)
    tags = {name: b"XYZ \0\0\0\0" + _fixed(*xyz) for name, xyz in columns}
    shape = b"para\0\0\0\0" + struct.pack(">HH", 3 if len(curve) == 5 else 0, 0) + _fixed(*curve)
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), shape)
    tags[b"wtpt"] = b"XYZ \0\0\0\0" + _fixed(*_WHITE)
    table, data, start = struct.pack(">L", len(tags)), b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">LL", start + len(data), len(value))
        data += value
    size = 128 + len(table) + len(data)
    head = struct.pack(">L4xL4s4s4s", size, 0x04400000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp" + bytes(28)
    return (head + _fixed(*_WHITE)).ljust(128, b"\0") + table + data


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)
