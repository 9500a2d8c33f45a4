"""The conditioning of all texts, encoded once: in memory, and on disk where it takes more room than that.

A large text encoder makes megabytes of a caption (T5-XXL: 512 states of 4096), and a caption may have several shuffles.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from worker.engine.families.protocol import Conditioning

MAX_BYTES_IN_MEMORY = 4 * 1024**3


class ConditioningStore(Mapping[str, Conditioning]):
    """By text. Rows are kept in ``dtype``, wherever they are, and read in float32. Those that do not fit into memory
    are files in ``folder``, each read again whenever it is asked for."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self._folder, self._dtype, self._num_bytes = folder, dtype, 0
        self._rows: dict[str, Conditioning | Path] = {}

    def add(self, text: str, row: Conditioning) -> None:
        kept = {name: tensor.to("cpu", self._dtype) for name, tensor in row.items()}
        num_bytes = sum(tensor.nbytes for tensor in kept.values())
        if self._num_bytes + num_bytes <= MAX_BYTES_IN_MEMORY:
            self._num_bytes += num_bytes
            self._rows[text] = kept
        else:
            path = self._folder / f"{hashlib.sha256(text.encode()).hexdigest()}.conditioning"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file(kept, path)
            self._rows[text] = path

    def __getitem__(self, text: str) -> Conditioning:
        row = self._rows[text]
        kept = load_file(row) if isinstance(row, Path) else row
        return {name: tensor.float() for name, tensor in kept.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
