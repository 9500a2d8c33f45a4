"""Which faults are planned, where a job is by its events, and what a report makes of it."""

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.faults import CELLS, FAULTS, Fault, plan_faults
from tests.chaos.history import Event
from tests.chaos.report import (
    draw_matrix,
    find_empty_cells,
    measure_recovery,
    percentile,
    write_between_markers,
)
from tests.chaos.scene import phase_of


def test_a_plan_fills_every_cell_before_any_again() -> None:
    plan = plan_faults(3, 200)
    assert len(plan) == 200
    assert set(plan[: len(CELLS)]) == set(CELLS)
    assert set(Counter(plan).values()) <= {2, 3}
    assert plan == plan_faults(3, 200) != plan_faults(4, 200)


@pytest.mark.parametrize(
    ("events", "phase"),
    [
        (["running"], "loading"),
        (["running", "caching"], "caching"),
        (["running", "caching", "sampling", 0, "training"], "training"),
        (["running", "caching", "sampling", 0, "training", "sampling"], "sampling"),
        (["running", "training", "sampling", 8, "checkpoint"], "sampling"),
        (["running", "training", "sampling", 8, "checkpoint", "scoring"], "evaluation"),
        (["running", "training", "sampling", 4, "training", "sampling"], "sampling"),
        (["running", "training", "sampling", 8, "scoring", "exporting"], "exporting"),
        (["running", "exporting", "succeeded"], "ended"),
    ],
)
def test_where_a_job_of_8_steps_is(events: list[str | int], phase: str) -> None:
    phases = {"caching", "training", "sampling", "scoring", "exporting"}
    written = [
        ("job.samples", {"step": event}) if isinstance(event, int)
        else ("job.phase", {"phase": event}) if event in phases
        else (f"job.{event}", {})
        for event in events
    ]  # fmt: skip
    assert phase_of(written) == phase


def test_the_matrix_counts_and_finds_what_is_empty() -> None:
    faults = [Fault(cell.kind, cell.phase, 0.0) for cell in CELLS]
    assert find_empty_cells(faults) == []
    assert find_empty_cells(faults[1:]) == [(faults[0].kind, faults[0].phase)]
    rows = draw_matrix([*faults, faults[0]])
    assert len(rows) == 2 + len(FAULTS)
    assert rows[2].startswith(f"| {faults[0].kind} | 2 | 1 ")


def test_recovery_is_counted_to_the_next_attempt_of_the_same_job() -> None:
    def write(seq: int, kind: str, attempt: int, at: float) -> Event:
        return Event("job_1", seq, f"job.{kind}", attempt, at)

    fault = Fault("trainer: kill", "training", 10.0, job_id="job_1", attempt=1)
    history = [write(1, "queued", 0, 1), write(2, "running", 1, 2), write(3, "queued", 1, 11.5),
               write(4, "running", 2, 14)]  # fmt: skip
    assert measure_recovery([fault], history) == {"trainer: kill": [(fault, 1.5, 4.0)]}
    resumed = [*history[:2], write(3, "pausing", 1, 10.5), write(4, "paused", 1, 11), write(5, "queued", 1, 60),
               write(6, "running", 2, 61)]  # fmt: skip
    assert measure_recovery([fault], resumed) == {}, "a pause is no recovery"
    assert measure_recovery([Fault("api: kill", "training", 10.0, job_id="job_1", attempt=1)], history) == {}


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile(list(range(100)), 0.99) == 98
    assert percentile([7.0], 0.99) == 7.0


def test_a_report_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    document.write_text("Head\n<!-- run: begin -->\nold\n<!-- run: end -->\nTail\n")
    for text in ("first", "second"):
        write_between_markers(document, "run", [text])
    assert document.read_text() == "Head\n<!-- run: begin -->\nsecond\n<!-- run: end -->\nTail\n"
    with pytest.raises(ValueError, match="markers"):
        write_between_markers(document, "other", ["x"])
