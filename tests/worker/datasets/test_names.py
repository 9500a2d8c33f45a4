import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import ArchiveRejected
from core.domain.filenames import is_os_metadata
from worker.datasets.names import NameRegister, clean_name, is_nested_archive


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("a.png", "a.png"),
        ("./a.png", "a.png"),
        ("a//b/./c.png", "a/b/c.png"),
        ("a\\b.png", "a/b.png"),
        ("./", ""),
        ("..a.png", "..a.png"),
        ("a..b/c.png", "a..b/c.png"),
        ("cafe\u0301.png", "caf\u00e9.png"),
        ("\udce9.png", "?.png"),
    ],
)
def test_clean_name(raw: str, cleaned: str) -> None:
    assert clean_name(raw) == cleaned


@given(st.text())
def test_a_cleaned_name_stays_inside_and_stays_clean(raw: str) -> None:
    try:
        name = clean_name(raw)
    except ArchiveRejected:
        return
    parts = name.split("/")
    assert name == clean_name(name) if name else True
    assert ".." not in parts
    assert not name.startswith("/")
    assert is_os_metadata(name) or not any(unicodedata.category(char) == "Cc" for char in name)
    name.encode("utf-8")


@pytest.mark.parametrize("name", ["a.png", "Stra\u00dfe.png", "caf\u00e9.png", "\u212b.png", "\ud55c\uae00.png"])
def test_a_name_collides_with_its_other_forms(name: str) -> None:
    for other in (name, name.upper(), name.lower(), unicodedata.normalize("NFD", name)):
        register = NameRegister()
        register.add(name)
        with pytest.raises(ArchiveRejected, match="Rename one"):
            register.add(clean_name(other))


@given(st.lists(st.text("abcdefgh", min_size=1), unique=True))
def test_different_names_do_not_collide(names: list[str]) -> None:
    register = NameRegister()
    for name in names:
        register.add(name)


def test_nested_archives_by_name() -> None:
    assert is_nested_archive("a/B.ZIP")
    assert is_nested_archive("a.png.gz")
    assert not is_nested_archive("zip.png")


@pytest.mark.parametrize("name", ["Icon\r", "set/Icon\r"])
def test_the_one_control_character_that_is_no_fault_is_in_a_name_that_nobody_sees(name: str) -> None:
    assert clean_name(name) == name


@pytest.mark.parametrize("name", ["xIcon\r", "Icon\r/a.png", "a\r/Icon\r", "Icon\r.png", "Icon\r\r", "icon\r"])
def test_others_like_it_are_faults(name: str) -> None:
    with pytest.raises(ArchiveRejected, match="control characters"):
        clean_name(name)
