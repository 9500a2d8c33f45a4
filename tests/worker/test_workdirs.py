"""What a killed trainer left in the cache that jobs share."""

import os
import time
from pathlib import Path

from core.settings import Settings
from worker.workdirs import PARTIAL_SECONDS, remove_partial, shared_cache_of


def test_only_what_nobody_writes_any_more_is_removed(tmp_path: Path) -> None:
    settings = Settings(DATABASE_URL="postgresql://nowhere/x", REDIS_URL="redis://nowhere", ATELIER_HOME=tmp_path)
    remove_partial(settings)  # there is no cache yet
    folder = shared_cache_of(settings) / "base"
    folder.mkdir(parents=True)
    old, new, whole = (folder / name for name in ("a.safetensors.7.part", "b.safetensors.8.part", "c.safetensors"))
    for path in (old, new, whole):
        path.write_bytes(b"x")
    past = time.time() - PARTIAL_SECONDS - 1
    for path in (old, whole):
        os.utime(path, (past, past))
    remove_partial(settings)
    assert sorted(folder.iterdir()) == [new, whole]
