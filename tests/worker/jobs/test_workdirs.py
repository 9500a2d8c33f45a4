"""What a killed trainer left in the cache that jobs share."""

import os
import time
from pathlib import Path

import pytest

from core.settings import Settings
from worker.jobs.workdirs import PARTIAL_SECONDS, UNUSED_SECONDS, encodings_of, shared_cache_of, tidy_cache


def test_what_was_used_last_stays_where_there_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(DATABASE_URL="postgresql://nowhere/x", REDIS_URL="redis://nowhere", ATELIER_HOME=tmp_path)
    monkeypatch.setattr("worker.jobs.workdirs.MAX_CACHE_BYTES", 250)
    folder = shared_cache_of(settings)
    folder.mkdir(parents=True)
    for age, name in enumerate(["newest", "newer", "old", "oldest"]):
        path = folder / f"{name}.prior"
        path.write_bytes(b"x" * 100)
        os.utime(path, (time.time() - age, time.time() - age))
    tidy_cache(settings)
    assert sorted(path.stem for path in folder.iterdir()) == ["newer", "newest"]


def test_only_what_nobody_writes_any_more_is_removed(tmp_path: Path) -> None:
    settings = Settings(DATABASE_URL="postgresql://nowhere/x", REDIS_URL="redis://nowhere", ATELIER_HOME=tmp_path)
    tidy_cache(settings)  # there is no cache yet
    folder = shared_cache_of(settings) / "base"
    folder.mkdir(parents=True)
    old, new, whole = (folder / name for name in ("a.safetensors.7.part", "b.safetensors.8.part", "c.safetensors"))
    for path in (old, new, whole):
        path.write_bytes(b"x")
    past = time.time() - PARTIAL_SECONDS - 1
    for path in (old, whole):
        os.utime(path, (past, past))
    tidy_cache(settings)
    assert sorted(folder.iterdir()) == [new, whole]


def test_what_nobody_used_for_a_week_is_removed(tmp_path: Path) -> None:
    settings = Settings(DATABASE_URL="postgresql://nowhere/x", REDIS_URL="redis://nowhere", ATELIER_HOME=tmp_path)
    folder = encodings_of(settings, "default")
    folder.mkdir(parents=True)
    for name, age in {"fresh.latents": 5.0, "old.latents": UNUSED_SECONDS + 60, "old.conditioning": 1e9}.items():
        (folder / name).write_bytes(b"x")
        os.utime(folder / name, (time.time() - age, time.time() - age))
    tidy_cache(settings)
    assert [path.name for path in folder.iterdir()] == ["fresh.latents"]
