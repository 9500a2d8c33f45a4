"""Adapters made from others: what is merged and how, the order to the program that does it, and its answer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from core.domain.adapter_import import ImportResult
from core.domain.base import Frozen
from core.domain.model import Family

MergeMethod = Literal["concat", "svd"]
"""``concat`` is exact, and its ranks add up; ``svd`` is the best approximation of a given rank."""
MakingMethod = Literal["concat", "svd", "extract"]
"""``extract``: the difference of two bases, cut to a rank."""

MAX_SOURCES = 8
MAX_WEIGHT = 10.0


class MergeSource(Frozen):
    """``name``: the source's when it was merged; it may be deleted later. ``sha256``: of a base's weights then."""

    id: str
    name: str
    weight: float
    sha256: str | None = None


def describe_sources(sources: Sequence[MergeSource]) -> str:
    """``blip (1), ink (0.6)``."""
    return ", ".join(f"{source.name} ({source.weight:g})" for source in sources)


class LayerError(Frozen):
    """One layer's part in a merge's error."""

    layer: str = Field(description="The network and the layer's path in it, by diffusers' names.")
    error: float = Field(description="Relative to the layer's exact update.")


class MergeError(Frozen):
    """How far the written update is from the exact weighted sum: the Frobenius norm of the difference over that of the
    sum. ``total`` is over all layers together; ``layers`` has each one, the worst first."""

    total: float
    layers: tuple[LayerError, ...]


class Merge(Frozen):
    """How an adapter was made, from adapters or (``extract``) from a base, its source. ``expected_bytes``: about the
    size of its files, which counts as used storage until it is ready. ``error`` is None until then."""

    method: MakingMethod
    rank: int | None = None
    sources: tuple[MergeSource, ...]
    expected_bytes: int
    error: MergeError | None = None


class MergeInput(Frozen):
    file: Path
    weight: float


class MakingRequest(Frozen):
    """The order: make an adapter for the base in ``model_folder``, and write its files into ``folder``, within
    ``memory_bytes``. ``name``, ``trigger``, ``made_from`` and the base's ``resolution`` are for the files' metadata."""

    family: Family
    model_folder: Path
    name: str
    trigger: str
    made_from: str
    resolution: int
    folder: Path
    memory_bytes: int


class MergeRequest(MakingRequest):
    """Of ``inputs``."""

    inputs: tuple[MergeInput, ...]
    method: MergeMethod
    rank: int | None


class ExtractionRequest(MakingRequest):
    """Of the difference between the base in ``tuned_folder`` and that in ``model_folder``, whose files must have these
    hashes."""

    model_sha256: str
    tuned_folder: Path
    tuned_sha256: str
    rank: int


class MergeResult(ImportResult):
    """As for an import, and with findings also the ``error``."""

    error: MergeError | None = None
