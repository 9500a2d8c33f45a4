"""The promotion of another step's adapter: the order to the program that proves its files, its answer, and what the
job's result says afterwards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from core.domain.artifacts import AdapterFormat
from core.domain.base import Frozen
from core.domain.model import Family
from core.domain.proof import LoadProof

CHOSEN = "chosen"
"""The key in a result: what it said before the first promotion, of the step that the training had chosen."""
_OF_THE_CHOSEN = ("metrics", "samples", "note", "warnings")


class ProofRequest(Frozen):
    """The order: prove that the files, one in each format, load with the base in ``model_folder``, within
    ``memory_bytes``."""

    family: Family
    model_folder: Path
    files: dict[AdapterFormat, Path]
    memory_bytes: int


class ProofAnswer(Frozen):
    """The answer: the proof of each file, or the reason for the refusal."""

    proofs: dict[AdapterFormat, LoadProof] = Field(default_factory=dict)
    refusal: str | None = None


def describe_promoted(
    result: Mapping[str, Any],
    *,
    step: int,
    files: Mapping[str, Any],
    proofs: Mapping[str, Any],
    loss: float | None,
    validation_loss: float | None,
    has_samples: bool,
) -> dict[str, Any]:
    """The result with another step's adapter. Of the step that the training had chosen it says again what it did. Of
    others no retention is known: it is measured at the end alone."""
    chosen = result.get(CHOSEN) or {name: result[name] for name in _OF_THE_CHOSEN if name in result}
    kept = {**result, "adapter": dict(files), "proofs": dict(proofs), CHOSEN: chosen}
    first = chosen["metrics"].get("step")
    if step == first:
        return {name: value for name, value in kept.items() if name not in _OF_THE_CHOSEN} | chosen
    metrics = {**chosen["metrics"], "step": step, "retention": None, "validation_loss": _rounded(validation_loss)}
    return kept | {
        "metrics": metrics if loss is None else {**metrics, "loss": _rounded(loss)},
        "samples": step if has_samples else None,
        "note": f"The adapter is from step {step}, which was promoted by request. Training had chosen step {first}.",
        "warnings": [],
    }


def _rounded(loss: float | None) -> float | None:
    return None if loss is None else round(loss, 6)
