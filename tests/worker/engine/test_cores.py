"""The number of threads: as requested, or by the cores that are free."""

import os
from pathlib import Path

import pytest

from worker.engine import cores


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Of four cores, all idle, outside of a container."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(cores, "CGROUP_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(cores, "measure_idle_cores", lambda: 4.0)
    return tmp_path


@pytest.mark.parametrize(("idle", "threads"), [(4.0, 4), (3.6, 4), (2.9, 3), (1.2, 1), (0.1, 1), (9.0, 4)])
def test_a_thread_for_each_free_core(idle: float, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "measure_idle_cores", lambda: idle)
    assert cores.choose_threads(0) == threads


@pytest.mark.parametrize(("quota", "usable"), [("max 100000", 4), ("200000 100000", 2), ("50000 100000", 1), ("x", 4)])
def test_a_containers_quota_counts(quota: str, usable: int, machine: Path) -> None:
    (machine / "cpu.max").write_text(f"{quota}\n")
    assert cores.choose_threads(0) == usable


@pytest.mark.parametrize(
    ("requested", "by_openmp", "threads"),
    [(3, "1", 3), (0, "2", 2), (0, "2,1", 2), (0, "", 4), (0, "many", 4), (8, "", 8)],
)
def test_what_the_operator_sets_wins(
    requested: int, by_openmp: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", by_openmp)
    assert cores.choose_threads(requested) == threads


def test_idle_cores_are_read_from_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    assert 0.0 <= cores.measure_idle_cores() <= (os.cpu_count() or 1) + 0.5
    monkeypatch.setattr(cores, "STAT", tmp_path / "nothing")
    assert cores.measure_idle_cores() == os.cpu_count()
