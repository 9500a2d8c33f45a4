"""The processes' logs: one JSON object a line on stderr, without secrets.

Each line has ``time`` (UTC), ``level``, ``role`` (which process), ``pid``, ``logger``, ``message``, ``exception`` if
there is one, and the fields of ``extra``.
"""

import logging
import re
import sys
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from types import TracebackType

from pythonjsonlogger.json import JsonFormatter

from core.settings import LogSettings, find_secrets

REDACTED = "[redacted]"
QUIET = ("httpx", "botocore")  # they log a line for each call
OWN_HANDLERS = ("uvicorn", "uvicorn.error")

MIN_SECRET_CHARACTERS = 6
# Each repetition that may start anywhere is bounded: logged text may come from anybody, and its filtering must take
# time that only grows with its length.
_SHAPES = (
    (re.compile(r"atl(?:_|%5[fF])[\w-]{8,}"), REDACTED),
    (re.compile(r"whsec(?:_|%5[fF])[0-9A-Za-z+/=_-]{8,}"), REDACTED),
    (re.compile(r"(?i)\b(bearer|authorization\W{1,8}basic) {1,4}[0-9a-z._~+/=-]{6,}"), rf"\1 {REDACTED}"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://[^\s:/@]{0,100}):[^\s/@]{1,500}@"), rf"\1:{REDACTED}@"),
    (
        re.compile(r"(?i)([?&](?:token|x-amz-[a-z-]{0,30}(?:signature|credential|token))=)[^&\s\"'\\]+"),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(/share(?:/|%2[fF]))[\w-]{20,}"), rf"\1{REDACTED}"),
    (re.compile(r"\bhf_[0-9A-Za-z]{10,}"), REDACTED),
    (re.compile(r"(?i)\b((?:__host-[a-z0-9_-]{1,50}|atelier-\d{1,5})=)[^;\s\"'\\]+"), rf"\1{REDACTED}"),
)


class Redactor:
    """Removes text that looks like one of our secrets, and the secrets of this process."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({text for text in secrets if len(text) >= MIN_SECRET_CHARACTERS}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def redact(self, text: str) -> str:
        for shape, instead in _SHAPES:
            text = shape.sub(instead, text)
        return text if self._known is None else self._known.sub(REDACTED, text)


class RedactedText(logging.Formatter):
    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.redact(super().format(record))


class RedactedJson(JsonFormatter):
    def __init__(self, redactor: Redactor, role: str) -> None:
        names = {"levelname": "level", "name": "logger", "process": "pid", "exc_info": "exception"}
        super().__init__(
            ["levelname", "process", "name", "message"],
            rename_fields=names,
            rename_fields_keep_missing=False,
            static_fields={"role": role},
            json_ensure_ascii=False,
        )
        self._redactor = redactor

    def add_fields(
        self, log_data: dict[str, object], record: logging.LogRecord, message_dict: dict[str, object]
    ) -> None:
        log_data["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        super().add_fields(log_data, record, message_dict)

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.redact(super().format(record))


def configure_logging(role: str) -> None:
    """For a process of its own, before it does anything: all loggers, warnings and uncaught exceptions."""
    settings = LogSettings()
    redactor = Redactor(find_secrets())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactedJson(redactor, role) if settings.format == "json" else RedactedText(redactor))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in OWN_HANDLERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is None or issubclass(kind, SystemExit | KeyboardInterrupt):
        return
    logging.getLogger("atelier").critical("uncaught %s", kind.__name__, exc_info=(kind, error, trace))
