"""CLIP's vocabulary out of the package that brings it. test_single_file.py has the folders."""

import gzip
from pathlib import Path

import pytest

from worker.engine.bases.vocabulary import MERGES, find_vocabulary
from worker.engine.errors import BadInput

CAT = {"cat": (514, 513, 515)}
"""Behind 256 bytes and 256 bytes at a word's end, the second of two merges, between the two marks."""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site" / "open_clip"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('this needs torchvision')")
    (folder / MERGES).write_bytes(gzip.compress(b'"bpe_simple_vocab_16e6.txt#version: 0.2\nc a\nca t</w>\n'))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr("worker.engine.bases.vocabulary.is_offline", lambda: True)
    return folder


def test_the_packages_merges_are_the_vocabulary(package: Path, tmp_path: Path) -> None:
    found = find_vocabulary([tmp_path / "models"], CAT)
    assert found("cat").input_ids == list(CAT["cat"])


def test_a_package_with_another_vocabulary_is_not_taken(package: Path, tmp_path: Path) -> None:
    (package / MERGES).write_bytes(gzip.compress(b"#version\nd o\n"))
    with pytest.raises(BadInput, match="pip install --no-deps open_clip_torch"):
        find_vocabulary([tmp_path / "models"], CAT)
