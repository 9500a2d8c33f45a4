"""The checker finds each broken promise in a made-up history, and nothing in good ones."""

from dataclasses import replace

import pytest

from tests.chaos.history import Event, Outcome, Promise, StoredFile, check_history

JOB, SLOT = "job_1", "host/cpu/0"


def write(*entries: tuple[str, int], job: str = JOB, begin: float = 0.0, slot: str = SLOT) -> list[Event]:
    """(type without `job.`, attempt) -> events a second apart."""
    return [
        Event(job, seq, f"job.{kind}", attempt, begin + seq, {"slot": slot} if kind == "running" else {})
        for seq, (kind, attempt) in enumerate(entries, start=1)
    ]


GOOD = write(("queued", 0), ("running", 1), ("phase", 1), ("checkpoint", 1), ("queued", 1), ("running", 2),
             ("phase", 2), ("succeeded", 2))  # fmt: skip
PROMISE, DONE = Promise((JOB, JOB)), Outcome(JOB, "succeeded", 2)
FILE = StoredFile(JOB, f"jobs/{JOB}/a2/adapter.safetensors", "aa", "aa")


def find(
    events: list[Event],
    outcome: Outcome | None = DONE,
    promise: Promise = PROMISE,
    files: tuple[StoredFile, ...] = (FILE,),
) -> set[str]:
    outcomes = [] if outcome is None else [outcome]
    return {violation.promise for violation in check_history([promise], outcomes, events, files)}


def without(*seqs: int) -> list[Event]:
    return [event for event in GOOD if event.seq not in seqs]


def test_a_job_that_was_retried_and_succeeded() -> None:
    assert find(GOOD) == set()


@pytest.mark.parametrize(
    ("entries", "status"),
    [
        ([("queued", 0), ("canceled", 0)], "canceled"),
        ([("queued", 0), ("running", 1), ("canceling", 1), ("canceled", 1)], "canceled"),
        ([("queued", 0), ("running", 1), ("pausing", 1), ("paused", 1), ("queued", 1), ("running", 2),
          ("succeeded", 2)], "succeeded"),
        ([("queued", 0), ("running", 1), ("pausing", 1), ("succeeded", 1)], "succeeded"),
        ([("queued", 0), ("running", 1), ("failed", 1)], "failed"),
    ],
)  # fmt: skip
def test_other_good_ends(entries: list[tuple[str, int]], status: str) -> None:
    canceled = Promise((JOB,), cancel_accepted=status == "canceled")
    attempt = max(attempt for _, attempt in entries)
    assert find(write(*entries), Outcome(JOB, status, attempt), canceled) == set()


def test_an_accepted_job_without_a_row_is_lost() -> None:
    assert find([], None, files=()) == {"lost"}


def test_an_accepted_job_that_has_not_ended_is_lost() -> None:
    assert find(without(8), Outcome(JOB, "running", 2)) == {"lost"}


def test_a_row_without_a_history_is_lost() -> None:
    assert "lost" in find([])


def test_one_key_that_made_two_jobs() -> None:
    other = write(("queued", 0), ("canceled", 0), job="job_2")
    outcomes = [DONE, Outcome("job_2", "canceled", 0)]
    found = check_history([Promise((JOB, "job_2"))], outcomes, [*GOOD, *other], [FILE])
    assert [violation.promise for violation in found] == ["doubled job"]


def test_two_commits() -> None:
    again = Event(JOB, 9, "job.succeeded", 2, 9.0)
    assert find([*GOOD, again]) == {"doubled commit", "event after the end"}


def test_two_ends() -> None:
    again = Event(JOB, 9, "job.canceled", 2, 9.0)
    assert find([*GOOD, again], Outcome(JOB, "canceled", 2)) == {"doubled end", "event after the end"}


def test_a_write_after_the_end() -> None:
    assert find([*GOOD, Event(JOB, 9, "job.notice", 2, 9.0)]) == {"event after the end"}


@pytest.mark.parametrize("kind", ["phase", "checkpoint", "samples", "notice"])
def test_a_write_of_an_attempt_that_lost_its_lease(kind: str) -> None:
    late = [replace(event, seq=event.seq + 1) if event.seq > 6 else event for event in GOOD]
    assert find([*late, Event(JOB, 7, f"job.{kind}", 1, 7.0)]) == {"late write"}


def test_a_commit_of_an_attempt_that_lost_its_lease() -> None:
    assert find([*without(8), Event(JOB, 8, "job.succeeded", 1, 8.0)]) == {"late write"}


def test_attempts_that_go_backwards() -> None:
    backwards = [replace(event, attempt=1) if event.seq >= 6 else event for event in GOOD]
    assert "attempts" in find(backwards, Outcome(JOB, "succeeded", 1))


def test_an_attempt_that_was_skipped() -> None:
    skipped = [replace(event, attempt=3) if event.seq >= 6 else event for event in GOOD]
    assert find(skipped, Outcome(JOB, "succeeded", 3)) == {"attempts"}


def test_a_row_of_another_attempt_than_its_history() -> None:
    assert find(GOOD, Outcome(JOB, "succeeded", 3)) == {"attempts"}


def test_two_leases_at_once() -> None:
    held = [replace(event, seq=event.seq - (event.seq > 5)) for event in without(5)]
    assert find(held) == {"overlap"}


def test_a_gap_in_the_numbers() -> None:
    assert find(without(4)) == {"gap"}


def test_a_number_given_twice() -> None:
    assert "gap" in find([*GOOD, replace(GOOD[3], type="job.samples")])


def test_a_history_without_its_first_entry() -> None:
    headless = [replace(event, seq=event.seq - 1) for event in without(1)]
    assert find(headless) == {"gap"}


def test_a_row_that_says_other_than_its_history() -> None:
    assert find(GOOD, Outcome(JOB, "failed", 2)) == {"end"}


def test_an_end_that_no_event_tells_of() -> None:
    assert find(without(8)) == {"end"}


def test_a_canceled_job_that_succeeded_by_the_answer_to_the_client() -> None:
    assert find(GOOD, promise=Promise((JOB,), cancel_accepted=True)) == {"canceled job succeeded"}


def test_a_canceled_job_that_succeeded_by_its_history() -> None:
    canceled = [replace(event, seq=event.seq + 1) if event.seq > 6 else event for event in GOOD]
    assert find([*canceled, Event(JOB, 7, "job.canceling", 2, 7.0)]) == {"canceled job succeeded"}


def test_two_jobs_on_one_slot() -> None:
    other = write(("queued", 0), ("running", 1), ("succeeded", 1), job="job_2", begin=1.5)
    promises, outcomes = [PROMISE, Promise(("job_2",))], [DONE, Outcome("job_2", "succeeded", 1)]
    assert {v.promise for v in check_history(promises, outcomes, [*GOOD, *other])} == {"shared slot"}
    elsewhere = write(("queued", 0), ("running", 1), ("succeeded", 1), job="job_2", begin=1.5, slot="host/cpu/1")
    assert check_history(promises, outcomes, [*GOOD, *elsewhere]) == []


def test_files() -> None:
    assert find(GOOD, files=(replace(FILE, found_sha256=None),)) == {"missing file"}
    assert find(GOOD, files=(replace(FILE, found_sha256="bb"),)) == {"damaged file"}
    assert find(GOOD, files=(replace(FILE, job_id="job_9"),)) == {"stray file"}
