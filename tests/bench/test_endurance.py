"""The benches of long jobs, shared cores and many photos, each on little."""

from pathlib import Path

import pytest

from bench import endurance, photos

pytestmark = pytest.mark.long


def test_two_jobs_and_a_long_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "endurance.md"
    monkeypatch.setattr("sys.argv", ["endurance", "--steps", "100", "--pair-steps", "4", "--out", str(out)])
    endurance.main()
    text = out.read_text()
    assert text in capsys.readouterr().out
    assert "| 91 to 100 |" in text and "The last tenth against the first:" in text
    assert "| by the cores that are free |" in text


def test_photos_until_their_dataset_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "photos.md"
    monkeypatch.setattr("sys.argv", ["photos", "--photos", "3", "--side", "256", "--out", str(out)])
    photos.main()
    assert "| 3 of 256 px, " in out.read_text()
