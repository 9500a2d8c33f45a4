"""When queued jobs start: whoever is first takes the slot that is free first."""

import pytest

from core.domain.waiting import estimate_left, find_starts


@pytest.mark.parametrize(
    ("running", "waiting", "slots", "starts"),
    [
        ([], [60.0, 30.0, 10.0], 1, [0.0, 60.0, 90.0]),
        ([100.0], [60.0, 30.0], 1, [100.0, 160.0]),
        ([100.0], [60.0, 30.0], 2, [0.0, 60.0]),
        ([100.0, 20.0], [60.0, 30.0, 5.0], 2, [20.0, 80.0, 100.0]),
        ([100.0], [60.0], 0, [100.0]),
        ([], [60.0, None, 30.0], 1, [0.0, 60.0, None]),
        ([None], [60.0], 1, [None]),
        ([None], [60.0, 5.0], 2, [0.0, 60.0]),
        ([5.0, 7.0], [1.0], 1, [5.0]),
        ([], [], 3, []),
    ],
)
def test_starts(
    running: list[float | None], waiting: list[float | None], slots: int, starts: list[float | None]
) -> None:
    assert find_starts(running, waiting, slots) == starts


def test_what_is_left_of_a_running_job() -> None:
    assert estimate_left(100.0, 30.0, None) == 70.0
    assert estimate_left(100.0, 30.0, 90.0) == 90.0, "it is slower than it was thought to be"
    assert estimate_left(100.0, 200.0, None) == 0.0
    assert estimate_left(None, 30.0, 5.0) == 5.0
    assert estimate_left(None, 30.0, None) is None
