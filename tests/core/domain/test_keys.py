import hashlib
import string

from hypothesis import given
from hypothesis import strategies as st

from core.domain.keys import check_api_key_format, hash_api_key, make_api_key

ALPHABET = string.ascii_letters + string.digits + "-_"


def test_a_made_key_is_well_formed_and_unique() -> None:
    keys = {make_api_key() for _ in range(200)}
    assert len(keys) == 200
    assert all(key.startswith("atl_") and len(key) == 53 and check_api_key_format(key) for key in keys)


@given(position=st.integers(0, 52), replacement=st.sampled_from(ALPHABET))
def test_a_key_with_one_wrong_character_is_refused(position: int, replacement: str) -> None:
    key = make_api_key()
    changed = key[:position] + replacement + key[position + 1 :]
    assert check_api_key_format(changed) == (changed == key)


@given(st.text())
def test_other_texts_are_refused(text: str) -> None:
    assert not check_api_key_format(text)
    assert not check_api_key_format(make_api_key() + text[:1] + "\n")


def test_the_hash_is_sha256_in_hexadecimal() -> None:
    key = make_api_key()
    assert hash_api_key(key) == hashlib.sha256(key.encode("ascii")).hexdigest()
