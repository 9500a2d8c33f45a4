"""What a job says of an error that nobody foresaw."""

import pytest

from worker.engine.errors import describe_unexpected


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("two shapes differ\nand a second line"), "ValueError (two shapes differ)"),
        (OSError("cannot open /srv/secret/tenant/models/sd15/unet/config.json"), "OSError (cannot open config.json)"),
        (RuntimeError("'/a/b c' and '/x/y'"), "RuntimeError ('b c' and 'y')"),
        (RuntimeError("see https://example.org/a/b"), "RuntimeError (see https://example.org/a/b)"),
        (KeyError(), "KeyError"),
        (ValueError("x" * 1000), f"ValueError ({'x' * 300})"),
    ],
)
def test_an_unexpected_error_is_described_without_the_machines_folders(error: Exception, said: str) -> None:
    assert describe_unexpected(error) == said
