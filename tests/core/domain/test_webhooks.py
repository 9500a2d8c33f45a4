"""The retry table, and how secrets look."""

import base64

import pytest

from core.domain.webhooks import MAX_TRIES, check_secret, find_delay, make_secret

MINUTE, HOUR = 60, 3600


def test_the_retry_table() -> None:
    delays = [find_delay(tries, 0.0) for tries in range(MAX_TRIES + 1)]
    assert delays == [
        0, 5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR, None,
    ]  # fmt: skip


def test_jitter_adds_a_tenth_at_most_and_takes_nothing_away() -> None:
    assert [find_delay(2, draw) for draw in (0.0, 0.5, 1.0)] == pytest.approx([300, 315, 330])
    assert find_delay(0, 1.0) == 0


def test_secrets_that_are_made_are_taken_and_differ() -> None:
    secrets = {make_secret() for _ in range(50)}
    assert len(secrets) == 50
    assert all(check_secret(secret) == secret for secret in secrets)


@pytest.mark.parametrize("size", [24, 25, 32, 64])
@pytest.mark.parametrize("padded", [True, False])
def test_sizes_that_are_taken(size: int, padded: bool) -> None:
    encoded = base64.b64encode(bytes(size)).decode()
    check_secret("whsec_" + (encoded if padded else encoded.rstrip("=")))


@pytest.mark.parametrize(
    "secret",
    [
        "", "whsec_", base64.b64encode(bytes(32)).decode(), "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(), "whsec_" + "!" * 44,
        "whpk_" + base64.b64encode(bytes(32)).decode(),
        "whsec_" + base64.urlsafe_b64encode(b"\xff" * 32).decode(), "whsec_ " + base64.b64encode(bytes(32)).decode(),
        "whsec_" + "ä" * 44,
    ],
)  # fmt: skip
def test_what_is_no_secret(secret: str) -> None:
    with pytest.raises(ValueError, match="must be whsec_") as refusal:
        check_secret(secret)
    assert not secret or secret == "whsec_" or secret not in str(refusal.value)
