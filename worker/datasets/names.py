"""Names inside archives: which are refused, which are ignored, and which count as the same.

No file is ever written under such a name. They are shown to people, paired with captions and written to the database,
and people unpack their downloads.
"""

import re
import unicodedata

from core.domain.dataset import is_archive_name
from core.domain.errors import ArchiveRejected
from core.domain.filenames import FINDER_ICON, fold

MAX_NAME_CHARS = 500
_OTHER_ARCHIVES = (".7z", ".bz2", ".gz", ".lz4", ".rar", ".xz", ".z", ".zst")
_DRIVE = re.compile(r"[A-Za-z]:")


def clean_name(raw: str) -> str:
    """The entry's relative path in Unicode's composed form; empty for the archive's own root.

    Raises ArchiveRejected for a name that leads out of the archive or cannot be displayed.
    """
    # Undecodable bytes of a tar become lone surrogates, which no database accepts.
    path = raw.encode("utf-8", "replace").decode().replace("\\", "/")
    shown = ascii(raw[:80])
    folder, _, file = path.rpartition("/")
    if any(unicodedata.category(char) == "Cc" for char in (folder if file == FINDER_ICON else path)):
        raise ArchiveRejected(f"It contains a name with control characters: {shown}. Rename that file.")
    if path.startswith("/") or _DRIVE.match(path):
        raise ArchiveRejected(f"It contains an absolute path: {shown}. Create it again with relative paths.")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ArchiveRejected(f"It contains a path that leads out of it: {shown}. Create it again without '..'.")
    if len(path) > MAX_NAME_CHARS:
        raise ArchiveRejected(f"It contains a name of more than {MAX_NAME_CHARS} characters: {shown}… Shorten it.")
    return unicodedata.normalize("NFC", "/".join(parts))


def is_nested_archive(name: str) -> bool:
    return is_archive_name(name) or name.lower().endswith(_OTHER_ARCHIVES)


class NameRegister:
    """Refuses the second of two names that are the same on some file systems: other case, other Unicode form."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def add(self, name: str) -> None:
        """Raises ArchiveRejected."""
        key = fold(name)
        if key in self._seen:
            raise ArchiveRejected(
                f"Two of its names are the same, or differ only in case or Unicode form: {self._seen[key]!a} and "
                f"{name!a}. Rename one of them."
            )
        self._seen[key] = name
