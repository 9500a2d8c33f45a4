"""One file per model family. To add one: its file, its line below, and its test."""

from pathlib import Path

import torch

from core.domain.model import Family
from worker.training.families.protocol import Base
from worker.training.families.sd1 import load_sd1

_LOADERS = {"sd1": load_sd1}


def load_base(family: Family, folder: Path, device: torch.device, dtype: torch.dtype) -> Base:
    """The frozen denoiser of a base on its device. Raises BadInput for a folder of another kind."""
    return _LOADERS[family](folder, device, dtype)
