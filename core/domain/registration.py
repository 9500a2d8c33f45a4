"""The registration of a base model that has no card yet, and the first timing of one."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from core.domain.base import Frozen
from core.domain.model import Calibration, ModelInfo, PredictionType

ID_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
HUB_ID_PATTERN = r"^[A-Za-z0-9][\w.-]*/[\w.-]+$"


def derive_id(source: str) -> str | None:
    """The last part of a path or Hub id in lower case; None if no id can be made of it."""
    name = re.sub(r"[^a-z0-9._-]+", "-", source.rstrip("/").rpartition("/")[2].lower()).strip("-._")[:64]
    return name if re.match(ID_PATTERN, name) else None


class ModelSource(Frozen):
    """A file or folder below the models directory, or a Hub id: exactly one of the two."""

    path: str | None = None
    hub_id: Annotated[str | None, Field(pattern=HUB_ID_PATTERN)] = None
    prediction_type: PredictionType | None = None
    resolution: Annotated[int | None, Field(ge=64, le=2048, multiple_of=64)] = None
    description: str = ""


class RegistrationRequest(Frozen):
    """The order to the program that prepares a base. ``vocabulary_roots`` are searched after the models."""

    model_id: Annotated[str, Field(pattern=ID_PATTERN)]
    source: ModelSource
    models_path: Path
    vocabulary_roots: tuple[Path, ...] = ()


class RegistrationResult(Frozen):
    """The answer: the base's card and folder, or why there is none."""

    info: ModelInfo | None = None
    folder: Path | None = None
    refusal: str | None = None


class CalibrationRequest(Frozen):
    """The order to the program that times a base on a device. ``cpu_threads``: 0 for as many as cores are free."""

    model: ModelInfo
    folder: Path
    device: str
    cpu_threads: int


class CalibrationResult(Frozen):
    """The answer: what was measured, or why nothing was."""

    calibration: Calibration | None = None
    refusal: str | None = None
