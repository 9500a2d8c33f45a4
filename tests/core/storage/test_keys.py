import posixpath
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.storage import InvalidKey
from core.storage.keys import MAX_KEY_LENGTH, check_key, check_prefix, is_key

# Rich in what could be misread: separators, dots, escapes, control characters, other scripts' look-alikes.
hostile = st.text(st.sampled_from('aZ09_-./\\ %~\n\r\0:*?"<>|é․／\u202e'), max_size=20)
segments = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(st.one_of(hostile, st.text(max_size=30)))
def test_a_taken_key_means_the_same_everywhere(key: str) -> None:
    if not is_key(key):
        with pytest.raises(InvalidKey):
            check_key(key)
        return
    root = Path("/srv/store")
    assert (root / key).resolve().is_relative_to(root)
    assert posixpath.normpath(key) == key
    assert not key.startswith(("/", "."))
    assert "/." not in key
    assert quote(key, safe="/") == key
    assert key.isascii()
    assert key.isprintable()


@given(st.lists(segments, min_size=1, max_size=8))
def test_plain_segments_are_taken(parts: list[str]) -> None:
    assert check_key("/".join(parts)) == tuple(parts)
    assert check_prefix("/".join(parts)) == check_prefix("/".join(parts) + "/") == tuple(parts)


@given(st.lists(segments, min_size=1, max_size=4), st.sampled_from(["", ".", "..", ".hidden", "a b", "%2e%2e", "a\\b"]))
def test_one_bad_segment_spoils_a_key(parts: list[str], bad: str) -> None:
    for place in range(len(parts) + 1):
        assert not is_key("/".join([*parts[:place], bad, *parts[place:]]))


def test_lengths_are_bounded() -> None:
    assert is_key("a" * 255)
    assert not is_key("a" * 256)
    longest = "/".join(["a" * 99] * 4)
    assert len(longest) == MAX_KEY_LENGTH - 1
    assert is_key(longest + "a")
    assert not is_key(longest + "aa")


def test_the_empty_prefix_is_the_whole_store() -> None:
    assert check_prefix("") == ()
