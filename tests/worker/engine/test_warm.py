"""Bases stay in memory while there is room for them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from worker.engine import warm
from worker.engine.warm import Key, WarmBases

BASE_BYTES = 1000


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """``free`` bytes without any base, of ``total``; each base in memory takes BASE_BYTES."""
    sizes = {"free": 10_000, "total": 10_000}
    monkeypatch.setattr(warm, "total_memory_bytes", lambda device: sizes["total"])
    return sizes


@pytest.fixture
def bases(memory: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> WarmBases:
    bases = WarmBases(torch.device("cpu"))
    monkeypatch.setattr(warm, "available_memory_bytes", lambda device: memory["free"] - BASE_BYTES * bases.count)
    return bases


def make_base() -> Any:
    module = torch.nn.Linear(BASE_BYTES // 4, 1, bias=False)
    return SimpleNamespace(denoiser=SimpleNamespace(module=module))


def use(bases: WarmBases, name: str, peak_bytes: int | None) -> bool:
    """Whether it was warm."""
    key: Key = name, "bf16"
    was_warm = key in bases
    bases.make_room(key, peak_bytes)
    bases.open(key, name, make_base)
    return was_warm


def test_bases_are_kept_while_the_next_run_fits_beside_them(bases: WarmBases) -> None:
    assert [use(bases, name, 5000) for name in "abcabc"] == [False] * 3 + [True] * 3
    assert bases.models == ["a", "b", "c"]


def test_the_least_recently_used_goes_first(bases: WarmBases) -> None:
    for name in "abca":
        use(bases, name, 5000)
    use(bases, "d", 8500)
    assert bases.models == ["a", "d"]
    assert use(bases, "a", 9000)
    assert bases.models == ["d", "a"], "its own base counts among the 9,000 bytes"


def test_a_run_that_needs_all_memory_is_alone(bases: WarmBases) -> None:
    for name in "abc":
        use(bases, name, 5000)
    use(bases, "d", 10_000)
    assert bases.models == ["d"]


def test_other_bases_take_half_of_the_memory_at_most(bases: WarmBases, memory: dict[str, int]) -> None:
    memory["total"] = 4000
    for name in "abcd":
        use(bases, name, 2000)
    assert bases.models == ["b", "c", "d"]


def test_what_nobody_can_predict_is_alone(bases: WarmBases) -> None:
    use(bases, "a", 5000)
    use(bases, "b", None)
    assert bases.models == ["b"]


def test_one_base_in_two_precisions_is_one_model(bases: WarmBases) -> None:
    for precision in ("bf16", "fp32"):
        bases.open(("a", precision), "a", make_base)
    assert (bases.models, bases.count) == (["a"], 2)
    bases.drop_all()
    assert (bases.models, bases.count) == ([], 0)
