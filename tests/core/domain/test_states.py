"""The transition table against the contract, and by random walks on the real functions over PostgreSQL elsewhere."""

import pytest

from core.domain.states import (
    HELD,
    TERMINAL,
    TRANSITIONS,
    JobStatus,
    TerminationReason,
    advice_of,
    may_follow,
    title_of,
)

S = JobStatus
CONTRACT = {
    (S.QUEUED, S.RUNNING), (S.QUEUED, S.PAUSED), (S.QUEUED, S.CANCELED),
    (S.RUNNING, S.SUCCEEDED), (S.RUNNING, S.FAILED), (S.RUNNING, S.QUEUED), (S.RUNNING, S.PAUSING),
    (S.RUNNING, S.CANCELING), (S.PAUSING, S.PAUSED), (S.PAUSING, S.SUCCEEDED), (S.PAUSING, S.FAILED),
    (S.PAUSING, S.CANCELING), (S.PAUSED, S.QUEUED), (S.PAUSED, S.CANCELED), (S.CANCELING, S.CANCELED),
}  # fmt: skip


def test_the_table_is_the_contracts() -> None:
    assert {(a, b) for a in S for b in S if may_follow(a, b)} == CONTRACT
    assert set(TRANSITIONS) == set(S)


def test_terminal_states_are_final() -> None:
    assert {S.SUCCEEDED, S.FAILED, S.CANCELED} == TERMINAL
    assert not TERMINAL & HELD


@pytest.mark.parametrize("reason", list(TerminationReason))
def test_every_reason_to_fail_says_what_to_do(reason: TerminationReason) -> None:
    assert title_of(reason)
    assert advice_of(reason).endswith(".")
