"""Selects the files of a folder to upload, and reads them one at a time while they are sent."""

import contextlib
import hashlib
import io
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO

from atelier_client.errors import InputError

IMAGE_SUFFIXES = frozenset(
    {
        ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".pjpeg", ".pjp", ".webp", ".heic", ".heif", ".hif",
        ".avif", ".bmp", ".dib", ".tif", ".tiff", ".gif",
    }
)  # fmt: skip
"""Every format that the service reads. The dataset's report lists the files that it cannot use."""
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
CAPTION_SUFFIXES = frozenset({".txt", ".caption"})
METADATA_NAMES = frozenset({"metadata.jsonl", "metadata.csv"})
_WORKING_FOLDERS = frozenset({".git", ".svn", ".hg", ".thumbnails", ".cache", ".venv", ".ipynb_checkpoints"})
"""Folders of programs: users do not mean the images in them."""
_DECOMPRESSION = (lzma.LZMAError, zlib.error)
_KOHYA_FOLDER = re.compile(r"(?![1-9]\d\d[A-Z0-9_]{5}$)(\d{1,9})_.*\S.*")
_MAX_REPEATS = 1000
"""The service reads names in the same way: ``10_blip robot`` repeats and captions its pictures, as in
sd-scripts' DreamBooth layout; ``100_PANA`` is a camera's folder, and ``2024_summer`` is only a name."""


@dataclass(frozen=True)
class Upload:
    """``name`` is the path within the folder, with forward slashes. It begins with the folder's own name if that
    describes the images (``10_blip robot``)."""

    name: str
    path: Path


@dataclass(frozen=True)
class Selection:
    """The files to send, and those in the folder that will not be sent. ``name`` is the folder's name, or the file's
    without its suffix."""

    uploads: tuple[Upload, ...]
    skipped: tuple[str, ...] = ()
    name: str = ""

    @property
    def num_images(self) -> int:
        return sum(is_image(upload.path) for upload in self.uploads)

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(upload.path.stat().st_size for upload in self.uploads)

    def may_have_captions(self) -> bool:
        """Whether any file looks as if it contained captions: a text file, a metadata table or a folder with kohya's
        naming. True for an archive that cannot be listed here: the service will report what is wrong with it."""
        return any(map(_may_bring_captions, self.uploads))

    def content_hash(self) -> str:
        """The hexadecimal SHA-256 of every file's name and SHA-256, sorted by the names as UTF-8. It equals the
        ``files_sha256`` of a dataset of these files. Reads every file. Raises InputError."""
        digest = hashlib.sha256()
        for upload in sorted(self.uploads, key=lambda upload: upload.name.encode()):
            with _readable(upload.path), upload.path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{upload.name}\n{sha256}\n".encode())
        return digest.hexdigest()


def _may_bring_captions(upload: Upload) -> bool:
    if not is_archive(upload.path):
        return _names_captions(upload.name) and upload.path.stat().st_size > 0
    names = _list_archive(upload.path)
    return not names or any(_names_captions(name) or name.lower().endswith(ARCHIVE_SUFFIXES) for name in names)


def _names_captions(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return _is_caption_name(path) or any(map(_is_kohya_folder, path.parts[:-1]))


def _is_kohya_folder(name: str) -> bool:
    """Whether the name has kohya's form and says at least one repeat."""
    match = _KOHYA_FOLDER.fullmatch(name)
    return match is not None and 1 <= int(match[1]) <= _MAX_REPEATS


def _list_archive(path: Path) -> list[str]:
    """The names in an archive; empty if its content does not match its suffix."""
    try:
        if path.name.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                return archive.namelist()
        with tarfile.open(path) as packed:
            return packed.getnames()
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError, *_DECOMPRESSION):
        return []


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error


class LazyFile(io.RawIOBase):
    """A file that is open only while it is read: a dataset may have more files than a process may open."""

    def __init__(self, path: Path, on_bytes: Callable[[int], None] | None = None) -> None:
        """``on_bytes`` is called with the length of each block that was read."""
        self._path = path
        self._on_bytes = on_bytes
        self._file: BinaryIO | None = None
        with _readable(path):
            self._size = path.stat().st_size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        self._release()
        return self._position

    def read(self, size: int = -1) -> bytes:
        with _readable(self._path):
            if self._file is None:
                self._file = self._path.open("rb")
                self._file.seek(self._position)
            block = self._file.read(size)
        self._position += len(block)
        if not block:
            self._release()
        elif self._on_bytes is not None:
            self._on_bytes(len(block))
        return block

    def close(self) -> None:
        self._release()
        super().close()

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def select_files(path: Path) -> Selection:
    """Selects the images and captions of a folder and its subfolders, or a single archive or image.

    Raises InputError if there is nothing to send, or if a file cannot be sent.
    """
    if path.is_dir():
        return _select_folder(path)
    if not path.exists():
        raise InputError(f"There is no folder or file {path}.")
    if not (is_archive(path) or is_image(path)):
        raise InputError(f"{path} is neither a folder of images, nor an archive ({', '.join(ARCHIVE_SUFFIXES)}).")
    suffix = next((suffix for suffix in ARCHIVE_SUFFIXES if path.name.lower().endswith(suffix)), path.suffix)
    return Selection((_check(Upload(path.name, path)),), name=path.name[: -len(suffix)])


def _select_folder(folder: Path) -> Selection:
    own_name = _name_of(folder)
    prefix = f"{own_name}/" if _is_kohya_folder(own_name) else ""
    found = [Upload(prefix + file.relative_to(folder).as_posix(), file) for file in _walk(folder)]
    wanted = tuple(_check(upload) for upload in found if is_wanted(upload.path))
    if not any(is_image(upload.path) for upload in wanted):
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(f"{folder} holds no image ({kinds}). Name the folder that the images lie in, or an archive.")
    skipped = tuple(upload.name for upload in found if not is_wanted(upload.path))
    hidden = tuple(prefix + name for name in _find_hidden_folders(folder))
    return Selection(wanted, (*skipped, *hidden), own_name)


def _name_of(path: Path) -> str:
    """The name as it was typed, so that a link keeps its own. ``.`` and ``..`` are resolved."""
    return path.resolve().name if path.name in {"", ".."} else path.name


def _check(upload: Upload) -> Upload:
    if not os.access(upload.path, os.R_OK):
        raise InputError(f"{upload.path} cannot be read by this user.")
    try:
        upload.name.encode()
    except UnicodeEncodeError:
        raise InputError(f"The name {upload.name!r} is not UTF-8: rename the file.") from None
    return upload


def _refuse_closed(error: OSError) -> None:
    raise InputError(f"The folder {error.filename} cannot be read ({error.strerror}).") from error


def _walk(folder: Path) -> Iterator[Path]:
    """Yields files by name. Of hidden files it yields images and captions, except those of macOS (``._a.png``).

    It does not enter hidden folders or links to folders, so it cannot run in a circle.
    """
    for root, folders, names in os.walk(folder, onerror=_refuse_closed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(root, name)
            is_hidden = name.startswith("._") or (name.startswith(".") and not is_wanted(file))
            if not is_hidden and file.is_file():
                yield file


def _find_hidden_folders(folder: Path) -> list[str]:
    """Hidden folders with images directly in ``folder``, so that the user learns that they are not sent."""
    hidden = sorted(path for path in folder.iterdir() if path.name.startswith(".") and path.is_dir())
    return [f"{path.name}/" for path in hidden if path.name not in _WORKING_FOLDERS and _has_image(path)]


def _has_image(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(is_image(path) for path in folder.iterdir())
    return False


def is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def is_wanted(path: Path) -> bool:
    """Archives in a folder are not sent: they usually contain the same images again."""
    return is_image(path) or _is_caption_name(path)


def _is_caption_name(path: PurePath) -> bool:
    return path.suffix.lower() in CAPTION_SUFFIXES or path.name in METADATA_NAMES
