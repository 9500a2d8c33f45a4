"""The conditioning of all texts, encoded once: on disk, and in memory where there is room.

A large text encoder makes megabytes of a caption (T5-XXL: 512 states of 4096), and a caption may have several shuffles.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from worker.engine.adapter_files.formats import write_safetensors
from worker.engine.families.protocol import Conditioning

MAX_BYTES_IN_MEMORY = 4 * 1024**3
CUT = {"cut": "true"}


class ConditioningStore(Mapping[str, Conditioning]):
    """By text. Each row is a file in the precision that the encoders choose, and is read in float32. Rows for which
    there is no room in memory are read again whenever they are asked for, from ``kept_folder``: files in the cache may
    be deleted meanwhile. ``cut``: the texts not encoded whole."""

    def __init__(self, kept_folder: Path) -> None:
        self._kept_folder = kept_folder
        self.cut: set[str] = set()
        self._num_bytes = 0
        self._rows: dict[str, Conditioning | Path] = {}

    def read(self, text: str, path: Path) -> bool:
        """Whether an earlier attempt or job has left it there."""
        try:
            row, metadata = _read(path)
            os.utime(path)  # the least recently used files are deleted first when space runs short
        except (OSError, SafetensorError):
            return False
        self._keep(text, path, row, is_cut=metadata == CUT)
        return True

    def add(self, text: str, path: Path, row: Conditioning, dtype: torch.dtype, *, is_cut: bool) -> None:
        kept = {name: tensor.to("cpu", dtype) for name, tensor in row.items()}
        write_safetensors(path, kept, CUT if is_cut else {})
        self._keep(text, path, kept, is_cut=is_cut)

    def _keep(self, text: str, path: Path, row: Conditioning, *, is_cut: bool) -> None:
        num_bytes = sum(tensor.nbytes for tensor in row.values())
        fits = self._num_bytes + num_bytes <= MAX_BYTES_IN_MEMORY
        self._num_bytes += num_bytes if fits else 0
        self._rows[text] = row if fits else self._keep_file(path)
        self.cut |= {text} if is_cut else set()

    def _keep_file(self, path: Path) -> Path:
        """A second name for it where the file system has them, else a copy."""
        kept = self._kept_folder / path.name
        self._kept_folder.mkdir(parents=True, exist_ok=True)
        kept.unlink(missing_ok=True)
        try:
            kept.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, kept)
        return kept

    def __getitem__(self, text: str) -> Conditioning:
        row = self._rows[text]
        kept = _read(row)[0] if isinstance(row, Path) else row
        return {name: tensor.float() for name, tensor in kept.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def _read(path: Path) -> tuple[Conditioning, Mapping[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
