"""What of a folder is sent, and how: one multipart request whose files are opened one at a time."""

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
"""Every format that the service reads; what it cannot use of them, its report says."""
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
CAPTION_SUFFIXES = frozenset({".txt", ".caption"})
METADATA_NAMES = frozenset({"metadata.jsonl", "metadata.csv"})
_WORKING_FOLDERS = frozenset({".git", ".svn", ".hg", ".thumbnails", ".cache", ".venv", ".ipynb_checkpoints"})
"""Of programs: nobody means the images in them."""
_DECOMPRESSION = (lzma.LZMAError, zlib.error)
_KOHYA_FOLDER = re.compile(r"(?![1-9]\d\d[A-Z0-9_]{5}$)(\d{1,9})_.*\S.*")
_MAX_REPEATS = 1000
"""As the service reads names (core.domain.layouts): ``10_blip robot`` repeats and captions its pictures, as in
sd-scripts' DreamBooth layout; ``100_PANA`` is a camera's folder, and ``2024_summer`` is only a name."""


@dataclass(frozen=True)
class Upload:
    """``name`` is the path within the folder, with forward slashes; it begins with the folder's own name where that
    says something of the images (``10_blip robot``)."""

    name: str
    path: Path


@dataclass(frozen=True)
class Selection:
    """What will be sent, and what lies in the folder but will not. ``name`` is the folder's, or the file's without its
    suffix."""

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
        """Whether any file looks as if it brought captions: text beside an image, a table of them, or kohya's folder
        names. An archive that cannot be listed here counts as if it did: the service will say what is wrong with it."""
        return any(map(_may_bring_captions, self.uploads))

    def content_hash(self) -> str:
        """SHA-256 in hexadecimal, over every file's name and its own SHA-256, in the order of the names as UTF-8: the
        ``files_sha256`` of the dataset that comes of them. Reads every file. Raises InputError."""
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
    """Of images that are trained: one that says 0 repeats has none."""
    match = _KOHYA_FOLDER.fullmatch(name)
    return match is not None and 1 <= int(match[1]) <= _MAX_REPEATS


def _list_archive(path: Path) -> list[str]:
    """The names in it; none if it cannot be read as what its name says."""
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
    """A file that is open only while it is read, so that a set may have more files than a process may open."""

    def __init__(self, path: Path, on_bytes: Callable[[int], None] | None = None) -> None:
        """``on_bytes`` hears the length of each block that was read."""
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
    """The images and captions of a folder and its subfolders; or one archive or image.

    Raises InputError when there is nothing to send, or something that cannot be.
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
    """As it was typed, so that a link keeps its own; ``.`` and ``..`` are looked up."""
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
    """Files by name; of hidden ones images and captions alone, but for macOS's own beside each (``._a.png``).

    Hidden folders are not entered, nor links to folders, so there are no circles.
    """
    for root, folders, names in os.walk(folder, onerror=_refuse_closed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(root, name)
            is_hidden = name.startswith("._") or (name.startswith(".") and not is_wanted(file))
            if not is_hidden and file.is_file():
                yield file


def _find_hidden_folders(folder: Path) -> list[str]:
    """Directly in it, with images: so that nobody misses them later."""
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
    """In a folder, archives stay behind: they mostly hold the same images once more."""
    return is_image(path) or _is_caption_name(path)


def _is_caption_name(path: PurePath) -> bool:
    return path.suffix.lower() in CAPTION_SUFFIXES or path.name in METADATA_NAMES
