"""Files that systems leave in folders are recognized by their full names."""

import pytest

from core.domain.filenames import fold, is_hidden_twin, is_os_metadata


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store", "a/b/.DS_Store", "Icon\r", "set/Icon\r", "Thumbs.db", "THUMBS.DB", "a/desktop.ini", "ehthumbs.db",
        "__MACOSX/a.png", "set/__MACOSX/x/a.png", "._a.png", "set/._a.png", "@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg",
        ".thumbnails/a.png", ".Spotlight-V100/x", ".Trashes/a.png", ".fseventsd/1", "$RECYCLE.BIN/a.png",
        "System Volume Information/x", ".Trash-1000/files/a.png", ".git/a.png", ".ipynb_checkpoints/a.png",
        ".directory", "#recycle/a.png", ".picasa.ini", "lost+found/a.png", ".AppleDouble/a.png", ".nomedia",
    ],
)  # fmt: skip
def test_litter(name: str) -> None:
    assert is_os_metadata(name)


@pytest.mark.parametrize(
    "name",
    [
        "a.png", "...and then.png", ".hack/a.png", ".a.png", "..a.png", "macosx/a.png", "a.b.png", "thumbs.png",
        "thumbnails/a.png", "Icon.png", "icons/a.png", "desktop.png", "git/a.png", "eaDir/a.png", "DS_Store.png",
        "recycle/a.png", ".cache/a.png", "_a.png", "a/__macosx.png", ".thumbnails.png", ".trash.png", "",
    ],
)  # fmt: skip
def test_no_litter(name: str) -> None:
    assert not is_os_metadata(name)


def test_a_hidden_twin_is_one_by_its_own_name_alone() -> None:
    assert is_hidden_twin("._a.png")
    assert is_hidden_twin("set/._a.png")
    assert not is_hidden_twin("__MACOSX/._a.png")
    assert not is_hidden_twin("a.png")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A.png", "a.PNG"),
        ("\u00e9.png", "e\u0301.png"),
        ("\u00c9.png", "e\u0301.png"),
        ("stra\u00dfe.png", "STRASSE.png"),
    ],
)
def test_names_that_are_one_file_on_many_systems_fold_to_the_same(one: str, other: str) -> None:
    assert fold(one) == fold(other)


def test_other_names_stay_apart() -> None:
    assert fold("a.png") != fold("\u00e4.png")
