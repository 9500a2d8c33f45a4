"""Caption files as people write them: any encoding, and texts that no database would accept."""

import codecs
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from charset_normalizer import from_bytes

from core.domain.counts import counted
from core.domain.dataset import MAX_FILES_LISTED, ReportWarning, clean_caption
from core.domain.metadata import MAX_METADATA_PROBLEMS, MAX_METADATA_ROWS, Row, read_metadata
from core.domain.pairing import Pairing, pair_captions

MAX_CAPTION_BYTES = 64 << 10
MAX_METADATA_BYTES = 16 << 20
MAX_CAPTIONS_BYTES = 32 << 20
"""For all caption files of a set, which are in memory at the same time."""
MAX_PROBLEMS_SHOWN = 3
MAX_GUESSED_BYTES = 64 << 10
WESTERN = "cp1252"
LEGACY_ENCODINGS = {
    WESTERN: "Windows-1252 (Western European)",
    "cp932": "Shift-JIS (Japanese)",
    "gb18030": "GB 18030 (Chinese)",
    "big5": "Big5 (Chinese)",
    "cp949": "CP949 (Korean)",
    "cp1251": "Windows-1251 (Cyrillic)",
    "koi8_r": "KOI8-R (Cyrillic)",
    "euc_jp": "EUC-JP (Japanese)",
    "cp1250": "Windows-1250 (Central European)",
    "cp1253": "Windows-1253 (Greek)",
    "cp1254": "Windows-1254 (Turkish)",
    "cp1255": "Windows-1255 (Hebrew)",
    "cp1256": "Windows-1256 (Arabic)",
}
LATIN = {WESTERN, "cp1250", "cp1254"}
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_NOT_ASCII = re.compile(rb"[\x80-\xff]+")


@dataclass
class Decoder:
    """The texts of one set. Texts that are not Unicode are decoded by the legacy encoding that fits most of them, since
    one caption alone is too short to tell; ``guessed`` lists them: encoding -> files."""

    legacy: str = WESTERN
    guessed: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def for_files(cls, files: Iterable[bytes]) -> "Decoder":
        sample = bytearray()
        for data in files:
            if len(sample) < MAX_GUESSED_BYTES and find_unicode(data) is None:
                sample += data[: MAX_GUESSED_BYTES - len(sample)] + b"\n"
        return cls(guess_legacy_encoding(bytes(sample)) if sample else WESTERN)

    def decode(self, name: str, data: bytes) -> str:
        encoding = find_unicode(data)
        if encoding is None:
            encoding = self.legacy if _can_decode(data, self.legacy) else WESTERN
            self.guessed.setdefault(encoding, []).append(name)
        return data.decode(encoding, "replace")

    def list_doubts(self) -> list[ReportWarning]:
        return [
            ReportWarning(
                code="caption-encoding",
                message=f"These caption files are not UTF-8; they were read as {LEGACY_ENCODINGS[encoding]}, a "
                "guess: check the captions, and save the files as UTF-8 if they are wrong.",
                files=tuple(sorted(names)[:MAX_FILES_LISTED]),
            )
            for encoding, names in sorted(self.guessed.items())
        ]


def find_unicode(data: bytes) -> str | None:
    """UTF-8, or UTF-16 and UTF-32 by their byte order mark; UTF-16 without it by the zero bytes of Latin letters."""
    marked = next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), None)
    if marked is not None:
        return marked if _can_decode(data, marked) or marked != "utf-32" else "utf-16"
    if data and len(data) % 2 == 0:
        for encoding, zeros, letters in (("utf-16-le", data[1::2], data[::2]), ("utf-16-be", data[::2], data[1::2])):
            if zeros.count(0) > len(zeros) / 2 and not letters.count(0) and _can_decode(data, encoding):
                return encoding
    return "utf-8" if _can_decode(data, "utf-8") else None


def guess_legacy_encoding(sample: bytes) -> str:
    """The encoding of joined texts that are not Unicode. Single letters beyond ASCII among many within it are Western
    accents: their frequencies may be anything. If letters beyond ASCII are adjacent, they are not Latin."""
    runs = _NOT_ASCII.findall(sample)
    num_high = sum(map(len, runs))
    num_letters = num_high + sum(bytes([byte]).isalpha() for byte in sample)
    if num_high < 1.5 * len(runs) and num_high < num_letters / 4 and _can_decode(sample, WESTERN):
        return WESTERN
    candidates = set(LEGACY_ENCODINGS) - (LATIN if num_high >= 2 * len(runs) else set())
    best = from_bytes(sample, cp_isolation=sorted(candidates)).best()
    return best.encoding if best is not None and best.encoding in LEGACY_ENCODINGS else WESTERN


def decode_text(data: bytes) -> str:
    """One text alone; if it is not Unicode, as Windows' Western encoding, which accepts almost any bytes."""
    return Decoder().decode("", data)


def _can_decode(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True)
class Captions:
    """The contents of a set's caption files. ``problems``: metadata file -> its faults; ``with_rows``: those that have
    usable rows all the same."""

    pairing: Pairing
    problems: dict[str, str]
    with_rows: frozenset[str]
    doubts: list[ReportWarning]


def read_captions(
    images: Iterable[str], texts: Mapping[str, bytes], metadata: Mapping[str, bytes], archives: Mapping[str, str]
) -> Captions:
    """``archives``: as in ``pair_captions``."""
    decoder = Decoder.for_files([*texts.values(), *metadata.values()])
    decoded = {name: clean_caption(decoder.decode(name, data)) or "" for name, data in texts.items()}
    rows, problems = read_metadata_files(metadata, decoder)
    pairing = pair_captions(images, decoded, rows, archives)
    with_rows = frozenset(row.source for row in rows)
    return Captions(pairing, problems, with_rows, [*decoder.list_doubts(), *_list_doubts(pairing)])


def read_metadata_files(files: Mapping[str, bytes], decoder: Decoder | None = None) -> tuple[list[Row], dict[str, str]]:
    """The rows of every metadata file, at most MAX_METADATA_ROWS, and file -> its faults."""
    decoder = decoder or Decoder.for_files(files.values())
    rows: list[Row] = []
    problems: dict[str, str] = {}
    for name, data in files.items():
        found, wrong = read_metadata(name, decoder.decode(name, data))
        if len(rows) + len(found) > MAX_METADATA_ROWS:
            wrong = [*wrong, f"with it the set has more than {MAX_METADATA_ROWS:,} rows: the rest was not read"]
        rows += [_without_surrogates(row) for row in found[: MAX_METADATA_ROWS - len(rows)]]
        if wrong:
            problems[name] = _summarize(wrong)
    return rows, problems


def _without_surrogates(row: Row) -> Row:
    r"""JSON can contain a lone ``\ud800``, which has no UTF-8, and ``\u0000``, which PostgreSQL cannot store."""
    clean = (text.encode("utf-8", "replace").decode().replace("\0", " ") for text in (row.file_name, row.caption))
    return Row(row.source, row.line, *clean)


def _list_doubts(pairing: Pairing) -> list[ReportWarning]:
    unmatched = [f"{describe_row(item.row)} ({item.reason})" for item in pairing.unmatched[:MAX_FILES_LISTED]]
    guesses = [f"{describe_row(guess.row)} -> {guess.image}" for guess in pairing.guesses[:MAX_FILES_LISTED]]
    warnings = [
        ReportWarning(
            code="unmatched-rows",
            message=f"{counted(len(pairing.unmatched), 'row')} of metadata files "
            f"{'matches' if len(pairing.unmatched) == 1 else 'match'} no image. file_name must be the path "
            "from the metadata file's own folder.",
            files=tuple(unmatched),
        ),
        ReportWarning(
            code="guessed-rows",
            message=f"{counted(len(pairing.guesses), 'row')} of metadata files "
            f"{'matches' if len(pairing.guesses) == 1 else 'match'} no image by path; the only similar one was "
            "used. Check whether that is right.",
            files=tuple(guesses),
        ),
    ]
    return [warning for warning in warnings if warning.files]


def describe_row(row: Row) -> str:
    return f"{row.source}, line {row.line}: {row.file_name[:200]}"


def _summarize(problems: list[str]) -> str:
    shown, more = "; ".join(problems[:MAX_PROBLEMS_SHOWN]), len(problems) - MAX_PROBLEMS_SHOWN
    if len(problems) >= MAX_METADATA_PROBLEMS:
        return f"{shown}; and {more} more, after which reading stopped."
    return f"{shown}{f'; and {more} more' if more > 0 else ''}."
