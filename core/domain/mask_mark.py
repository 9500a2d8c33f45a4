"""How a downloaded image says that its alpha channel is a mask: by a text chunk of its PNG.

A stored image has its colours under the mask. Uploaded again it would be laid on white where alpha hides it, and be
another image; with the mark its colours stay as they are.
"""

import struct
import zlib

KEYWORD = "atelier-alpha"
VALUE = "mask"
PNG_HEADER_BYTES = 33
"""The signature and the chunk IHDR (PNG, third edition, 11.2.1), which comes first."""


def _make_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


MARK = _make_chunk(b"tEXt", f"{KEYWORD}\0{VALUE}".encode())
"""To be put behind the first PNG_HEADER_BYTES bytes."""
