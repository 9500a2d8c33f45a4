"""Where texts' conditioning is kept changes no bytes of a training; in which precision is the family's choice."""

from pathlib import Path

import pytest
import torch

from tests.fixtures.bench import Bench, encode_set, fingerprint
from worker.engine.families.clip import ClipTextEncoders
from worker.engine.observer import RecordingObserver
from worker.engine.training import conditioning
from worker.engine.training.conditioning import ConditioningStore

SPEC = {"steps": 4, "precision": "fp32", "checkpoints": {"every": 2}, "samples": {"prompts": ["zap left"], "every": 4}}


def test_a_training_from_disk_has_the_same_bytes(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, found = bench.plan(**SPEC), []
    for max_bytes in (conditioning.MAX_BYTES_IN_MEMORY, 3000, 0):  # all, some and none of it in memory
        monkeypatch.setattr(conditioning, "MAX_BYTES_IN_MEMORY", max_bytes)
        observer, workdir = RecordingObserver(), tmp_path / str(max_bytes)
        found.append(fingerprint(bench.run(workdir, plan, observer), observer))
        assert list((workdir / "cache").glob("*.conditioning"))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("max_bytes", [10_000, 0])
def test_half_precision_takes_half_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_bytes: int) -> None:
    """And gives the same numbers from disk as from memory."""
    monkeypatch.setattr(conditioning, "MAX_BYTES_IN_MEMORY", max_bytes)
    store, states = ConditioningStore(tmp_path / "kept"), torch.randn(16, 64)
    store.add("a cat", tmp_path / "row", {"states": states}, torch.bfloat16, is_cut=False)
    assert list(store) == ["a cat"] and len(store) == 1
    assert store["a cat"]["states"].dtype == torch.float32
    assert torch.equal(store["a cat"]["states"], states.bfloat16().float())
    assert 16 * 64 * 2 < (tmp_path / "row").stat().st_size < 16 * 64 * 2 + 200


def test_the_text_encoders_choose_the_precision(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = bench.plan(**SPEC)
    base = bench.load(bench.runtime(plan))
    caches = []
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr(ClipTextEncoders, "conditioning_dtype", dtype)
        caches.append(encode_set(base, plan, bench.files, tmp_path / str(dtype)).conditioning)
    full, half = caches
    assert list(full) == list(half)
    for text in full:
        assert torch.equal(half[text]["states"], full[text]["states"].bfloat16().float())
        assert not torch.equal(half[text]["states"], full[text]["states"])
