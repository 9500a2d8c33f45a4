"""Every one is refused, in words, and nothing of it lands outside its folder."""

from pathlib import Path

import pytest

from core.domain.errors import ArchiveRejected
from tests.worker.datasets.hostile import BOMBS, NAMES_AND_KINDS, Case, all_cases
from worker.datasets.sandbox import Sandbox

CASES = all_cases()


def test_there_are_as_many_as_the_threat_model_asks_for() -> None:
    assert len({case.id for case in CASES}) == len(CASES) >= 200
    assert len(BOMBS) >= 40
    assert len(NAMES_AND_KINDS) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_refused(case: Case, sandbox: Sandbox, tmp_path: Path, folder: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(case.data)
    before = sandbox.pid

    if case.words == "left out":
        entries = sandbox.expand(archive, case.filename, folder).entries
        assert [(entry.written_as, "larger than" in str(entry.problem)) for entry in entries] == [(None, True)]
    else:
        with pytest.raises(ArchiveRejected) as refused:
            sandbox.expand(archive, case.filename, folder)
        assert case.words in refused.value.detail
        assert refused.value.detail.endswith(".")

    assert before in (None, sandbox.pid), "the decoder must refuse, not crash"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "expanded"]
    assert all(path.name.isdigit() or path.name == "archive.tar" for path in folder.rglob("*"))
