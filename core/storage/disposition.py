"""The header Content-Disposition of a file to be saved, not shown (RFC 6266)."""

import re
import unicodedata
from urllib.parse import quote

MAX_STEM_BYTES = 200
"""File systems allow 255 bytes, and browsers add "(1)" and more."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)", re.IGNORECASE)
_NOT_IN_NAMES = re.compile(r'[/\\<>:"|?*]+')
_NOT_IN_FALLBACK = re.compile(r"[^A-Za-z0-9._]+")


def make_filename(name: str, suffix: str, default: str = "adapter") -> str:
    """A user's name as one that every file system accepts: no path, no control or invisible characters, no leading dot.

    ``suffix`` is the service's own, such as ``.safetensors``.
    """
    visible = "".join(" " if c.isspace() else c for c in name if c.isspace() or unicodedata.category(c)[0] != "C")
    stem = _NOT_IN_NAMES.sub("-", unicodedata.normalize("NFC", visible)).strip(" .-")
    stem = stem.encode()[:MAX_STEM_BYTES].decode(errors="ignore").strip(" .-")
    return f"{stem or default}{'-' if _RESERVED.fullmatch(stem) else ''}{suffix}"


def attachment(filename: str) -> str:
    """``filename`` in ASCII for old clients and, where that differs, whole as ``filename*`` (RFC 6266, 4.3 and
    appendix D; RFC 8187)."""
    plain = to_ascii(filename)
    header = f'attachment; filename="{plain}"'
    return header if plain == filename else f"{header}; filename*=UTF-8''{quote(filename, safe='')}"


def to_ascii(filename: str) -> str:
    """Letters, digits, dots and dashes: accents are removed, and other characters outside ASCII become a dash."""
    decomposed = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    stem, dot, suffix = _NOT_IN_FALLBACK.sub("-", decomposed).partition(".")
    return (stem.strip("-") or "file") + dot + suffix.lstrip("-.")
