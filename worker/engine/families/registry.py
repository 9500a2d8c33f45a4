"""The families: each is one file with its SPEC, and an entry in core.domain.model."""

from collections.abc import Mapping
from pathlib import Path

import torch

from core.domain.model import Family
from worker.engine.errors import BadInput
from worker.engine.families import sd1, sd2, sdxl
from worker.engine.families.protocol import Base, Network
from worker.engine.families.recognition import open_pipeline_folder, refuse_unknown
from worker.engine.families.spec import FamilySpec

FAMILIES: Mapping[str, FamilySpec] = {module.SPEC.name: module.SPEC for module in (sd1, sd2, sdxl)}

PART_NAMES = tuple(dict.fromkeys(part.name for spec in FAMILIES.values() for part in spec.parts))


def find_family(folder: Path) -> Family:
    """Raises BadInput, with a description of the folder. A family's refusal counts only if no other recognises it."""
    pipeline, refusal = open_pipeline_folder(folder), None
    for spec in FAMILIES.values():
        try:
            if spec.recognise(pipeline):
                return spec.name
        except BadInput as error:
            refusal = refusal or error
    if refusal is not None:
        raise refusal
    refuse_unknown(pipeline)


def load_base(family: Family, folder: Path, device: torch.device, dtype: torch.dtype) -> Base:
    """The frozen denoiser of a base on its device. Raises BadInput for a folder of another family."""
    return _open_spec(family, folder).load(folder, device, dtype)


def build_networks(family: Family, folder: Path) -> list[Network]:
    """A base's networks without weights, on the meta device. Raises BadInput for a folder of another family."""
    return _open_spec(family, folder).build(folder)


def _open_spec(family: Family, folder: Path) -> FamilySpec:
    if (found := find_family(folder)) != family:
        raise BadInput(f"{folder.name} is of the family {found}, not {family}: register it again.")
    return FAMILIES[family]
