"""One file per model family. A new one needs its file, its lines below and in core.domain.model, and its test."""

from pathlib import Path

import torch

from core.domain.model import Family
from worker.engine.errors import BadInput
from worker.engine.families.protocol import Base
from worker.engine.families.recognition import find_family
from worker.engine.families.sd1 import load_sd1
from worker.engine.families.sd2 import load_sd2
from worker.engine.families.sdxl import load_sdxl

_LOADERS = {"sd1": load_sd1, "sd2": load_sd2, "sdxl": load_sdxl}


def load_base(family: Family, folder: Path, device: torch.device, dtype: torch.dtype) -> Base:
    """The frozen denoiser of a base on its device. Raises BadInput for a folder of another family."""
    if (found := find_family(folder)) != family:
        raise BadInput(f"{folder.name} is of the family {found}, not {family}: register it again.")
    return _LOADERS[family](folder, device, dtype)
