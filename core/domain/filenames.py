"""Which file names count as the same, and which files operating systems and programs leave in folders.

The latter are recognized by the full name alone: an image is an image, even if its name begins with a dot.
"""

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

FINDER_ICON = "Icon\r"
"""macOS's file for a folder's icon. Its name ends in a carriage return, which is invisible."""

_FILES = frozenset(
    {
        ".ds_store", ".localized", ".apdisk", ".volumeicon.icns", ".com.apple.timemachine.donotpresent", "icon\r",
        "icon\uf00d", "thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini",
        "iconcache.db", ".directory", ".nomedia", ".picasa.ini", "picasa.ini", ".dropbox", ".dropbox.attr",
        ".gitignore", ".gitattributes", ".gitkeep", "zbthumbnail.info", ".bridgesort", ".bridgecache", ".bridgecachet",
    }
)  # fmt: skip
_FOLDERS = frozenset(
    {
        "__macosx", ".appledouble", ".appledb", ".appledesktop", ".spotlight-v100", ".trashes", ".fseventsd",
        ".temporaryitems", ".documentrevisions-v100", "network trash folder", "temporary items",
        "$recycle.bin", "system volume information", "recycler", "@eadir", "#recycle", "#snapshot", "@recycle",
        ".@__thumb", ".thumbnails", ".thumbs", ".xvpics", ".trash", ".picasaoriginals", ".git", ".svn", ".hg",
        ".ipynb_checkpoints", ".stfolder", ".stversions", ".dropbox.cache", "lost+found",
    }
)  # fmt: skip
_APPLE_DOUBLE = "._"
_TRASH_OF_USER = ".trash-"


def fold(name: str) -> str:
    """The same for names that differ only in case or Unicode form, and so would be one file on many systems (Unicode,
    section 3.13, D145, in the composed form)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def is_os_metadata(name: str) -> bool:
    """``name`` is a relative path with forward slashes."""
    *folders, file = PurePosixPath(name).parts or ("",)
    return file.lower() in _FILES or file.startswith(_APPLE_DOUBLE) or _is_in_os_folder(folders)


def is_hidden_twin(name: str) -> bool:
    """Whether only its first two characters speak against a file: macOS stores metadata of ``a.png`` as ``._a.png``
    (AppleDouble), but an image may have such a name too."""
    *folders, file = PurePosixPath(name).parts or ("",)
    return file.startswith(_APPLE_DOUBLE) and not _is_in_os_folder(folders)


def _is_in_os_folder(folders: Iterable[str]) -> bool:
    return any(part.lower() in _FOLDERS or part.lower().startswith(_TRASH_OF_USER) for part in folders)
