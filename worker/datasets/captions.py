"""Caption files as people make them: any encoding, and texts that no database would take."""

import codecs
from collections.abc import Mapping
from pathlib import PurePosixPath

from core.domain.dataset import MAX_METADATA_PROBLEMS, METADATA_NAME, read_metadata, spell

MAX_CAPTION_BYTES = 64 << 10
MAX_METADATA_BYTES = 16 << 20
MAX_CAPTIONS_BYTES = 32 << 20
"""Of all files of captions of a set, which are in memory at the same time."""
MAX_PROBLEMS_SHOWN = 3


def decode_text(data: bytes) -> str:
    """UTF-8, UTF-16 with its mark, or else Windows' Western encoding, which takes any bytes."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def read_metadata_files(files: Mapping[str, bytes]) -> tuple[dict[str, str], dict[str, str]]:
    """Image's path -> caption from every metadata.jsonl, and file -> what is wrong in it.

    A file_name is relative to the folder of its metadata.jsonl.
    """
    captions: dict[str, str] = {}
    problems: dict[str, str] = {}
    for name, data in files.items():
        rows, wrong = read_metadata(decode_text(data))
        folder = PurePosixPath(name).parent
        captions |= {spell(str(folder / image)): replace_surrogates(text) for image, text in rows.items()}
        if wrong:
            problems[name] = _summarize(wrong)
    return captions, problems


def is_metadata(name: str) -> bool:
    return PurePosixPath(name).name == METADATA_NAME


def replace_surrogates(text: str) -> str:
    r"""JSON may say ``\ud800`` alone, which has no UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _summarize(problems: list[str]) -> str:
    shown, more = "; ".join(problems[:MAX_PROBLEMS_SHOWN]), len(problems) - MAX_PROBLEMS_SHOWN
    if len(problems) == MAX_METADATA_PROBLEMS:
        return f"{shown}; and {more} more, after which it was not read on."
    return f"{shown}{f'; and {more} more' if more > 0 else ''}."
