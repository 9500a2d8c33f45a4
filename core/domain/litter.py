"""Files that operating systems and programs leave in people's folders, and that nobody means to send.

Known by name alone, each by its full name: a picture whose own name, or whose folder's, begins with a dot is a picture.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath

FINDER_ICON = "Icon\r"
"""macOS's file for a folder's icon. Its name ends in a carriage return, which people cannot see."""

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


def is_litter(name: str) -> bool:
    """``name`` is a relative path with forward slashes."""
    *folders, file = PurePosixPath(name).parts or ("",)
    return file.lower() in _FILES or file.startswith(_APPLE_DOUBLE) or _is_in_litter(folders)


def is_hidden_twin(name: str) -> bool:
    """Whether nothing but its first two characters speaks against a file: macOS calls what it knows beside ``a.png``
    ``._a.png`` (AppleDouble), and so may a person call a picture."""
    *folders, file = PurePosixPath(name).parts or ("",)
    return file.startswith(_APPLE_DOUBLE) and not _is_in_litter(folders)


def _is_in_litter(folders: Iterable[str]) -> bool:
    return any(part.lower() in _FOLDERS or part.lower().startswith(_TRASH_OF_USER) for part in folders)
