"""A real decoder, shared: it answers one question after another."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.datasets.decoder import DecoderLimits
from worker.datasets.sandbox import Sandbox, SandboxLimits

LIMITS = DecoderLimits(
    memory_bytes=1 << 30,
    max_total_bytes=4 << 20,
    max_file_bytes=1 << 20,
    max_pixels=1 << 20,
    archive_cpu_seconds=30,
    image_cpu_seconds=30,
)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(SandboxLimits(LIMITS), pulse=lambda: None) as sandbox:
        yield sandbox


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where an archive is expanded to."""
    folder = tmp_path / "expanded"
    folder.mkdir()
    return folder
