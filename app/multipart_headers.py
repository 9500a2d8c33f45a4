"""The headers of one part of a form: the field's name and the file's name.

As clients really send them: RFC 7578 and HTML's rules (names in UTF-8 as they are, with ``%22``, ``%0D`` and ``%0A``
for the characters that would end them), quoted strings with backslashes (RFC 9110, 5.6.4), ``filename*`` (RFC 8187,
which RFC 7578 forbids and some send), its continuations (RFC 2231), and MIME words (RFC 2047).
"""

import re
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import decode_header
from urllib.parse import unquote_to_bytes

from core.domain.errors import InvalidRequest

_PARAMETER = re.compile(
    rb""";[ \t]*(?P<name>[!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*=[ \t]*"""
    rb"""(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^;]*))""",
    re.DOTALL,
)
_CONTINUED = re.compile(r"filename\*(\d{1,2})(\*?)")
_MIME_WORDS = re.compile(r"\s*(?:=\?[^?\s]+\?[bBqQ]\?[^?]*\?=\s*)+")
# HTML forms send these for a quotation mark and a line end within a name; a percent sign stands for itself.
CHARSETS = frozenset({"utf-8", "utf8", "iso-8859-1", "latin-1", "us-ascii", "ascii", "windows-1252"})
"""For extended names: RFC 8187 allows only UTF-8; RFC 5987 also had ISO-8859-1."""
_ESCAPED = {"%22": '"', "%0D": "\r", "%0d": "\r", "%0A": "\n", "%0a": "\n"}
_MAX_SHOWN = 80


def read_disposition(value: bytes) -> tuple[str, str | None]:
    """The field's name and the file's, None for a plain field, from a Content-Disposition. Raises InvalidRequest."""
    parameters = parse_parameters(value)
    field = _unescape(_decode(parameters.get("name", b"")))
    extended = _read_extended(parameters)
    if extended is not None:
        return field, extended
    plain = parameters.get("filename")
    return field, None if plain is None else _strip_drive(_read_mime_words(_unescape(_decode(plain))))


def parse_parameters(value: bytes) -> Mapping[str, bytes]:
    """The parameters of a header such as ``form-data; name="a"``, in lower case; the first of each counts.

    Raises InvalidRequest for an unclosed quotation mark: searching for its end at each would take quadratic time.
    """
    parameters: dict[str, bytes] = {}
    for found in _PARAMETER.finditer(value):
        quoted = found["quoted"]
        if quoted is None and found["token"].startswith(b'"'):
            raise InvalidRequest(f"The header {_show(value)} has an unclosed quotation mark.")
        content = found["token"].strip() if quoted is None else _unquote(quoted)
        parameters.setdefault(found["name"].decode("ascii").lower(), content)
    return parameters


def _unquote(quoted: bytes) -> bytes:
    r"""Only ``\"`` and ``\\`` are escapes: browsers send other backslashes as they are."""
    return re.sub(rb'\\(["\\])', rb"\1", quoted)


def _unescape(name: str) -> str:
    return re.sub("|".join(_ESCAPED), lambda found: _ESCAPED[found[0]], name)


def _strip_drive(name: str) -> str:
    r"""Some Windows programs send the file's path: ``C:\pictures\a.png``."""
    return name.rpartition("\\")[2] if name[1:3] == ":\\" or name.startswith("\\\\") else name


def _read_mime_words(name: str) -> str:
    """``=?utf-8?B?Y2Fmw6kucG5n?=`` and the like, if the whole name consists of them."""
    if not _MIME_WORDS.fullmatch(name):
        return name
    try:
        pieces = decode_header(name)
        return "".join(
            piece if isinstance(piece, str) else piece.decode(charset or "ascii") for piece, charset in pieces
        )
    except (HeaderParseError, UnicodeDecodeError, LookupError, ValueError):
        return name


def _read_extended(parameters: Mapping[str, bytes]) -> str | None:
    """``filename*``, which precedes ``filename`` (RFC 6266, 4.3) unless it cannot be read."""
    value = parameters.get("filename*")
    pieces = {int(at[1]): (bool(at[2]), v) for k, v in parameters.items() if (at := _CONTINUED.fullmatch(k))}
    if value is None and 0 in pieces:
        charset, value = _join(pieces)
    elif value is not None:
        charset, value = _split_charset(value)
    else:
        return None
    try:
        if charset.lower() not in CHARSETS:
            raise LookupError(charset)
        return value.decode(charset)
    except (UnicodeDecodeError, LookupError):
        if "filename" in parameters:
            return None
        raise InvalidRequest(
            f"The file name {_show(value)} cannot be decoded as {charset[:20]!r}. Send it in UTF-8."
        ) from None


def _split_charset(value: bytes) -> tuple[str, bytes]:
    """``UTF-8'en'caf%C3%A9.png``: charset, language, and the name percent-encoded (RFC 8187, 3.2)."""
    charset, mark, rest = value.partition(b"'")
    _, second_mark, name = rest.partition(b"'")
    if not (mark and second_mark):
        return "utf-8", unquote_to_bytes(value)
    return charset.decode("ascii", "replace") or "utf-8", unquote_to_bytes(name)


def _join(pieces: Mapping[int, tuple[bool, bytes]]) -> tuple[str, bytes]:
    """``filename*0*``, ``filename*1`` and so on (RFC 2231, 3 and 4.1), up to the first that is missing."""
    is_encoded, first = pieces[0]
    charset, joined = _split_charset(first) if is_encoded else ("utf-8", first)
    number = 1
    while number in pieces:
        is_encoded, piece = pieces[number]
        joined += unquote_to_bytes(piece) if is_encoded else piece
        number += 1
    return charset, joined


def _decode(value: bytes) -> str:
    """Raises InvalidRequest."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"The name {_show(value)} is not UTF-8; rename the file or field.") from None


def _show(value: bytes) -> str:
    return ascii(value[:_MAX_SHOWN].decode("utf-8", "backslashreplace"))
