"""The result of a succeeded job, from the trainer's outcome."""

from collections.abc import Mapping
from typing import Any

from core.domain.artifacts import AdapterFormat, Artifact
from core.domain.estimate import count_images, count_samples, count_step_samples
from core.domain.outcome import Outcome, explain, warn
from core.domain.plan import TrainPlan
from core.domain.proof import LoadProof


def describe_result(
    plan: TrainPlan,
    outcome: Outcome,
    proofs: Mapping[AdapterFormat, LoadProof],
    artifacts: Mapping[str, Artifact],
    *,
    undisturbed_seconds: float | None,
) -> dict[str, Any]:
    """``undisturbed_seconds``: the job's time from its claim on; None if it was interrupted or ended early."""
    return {
        "adapter": {name: artifact.model_dump(exclude={"key"}) for name, artifact in artifacts.items()},
        "samples": outcome.step if plan.sample_prompts else None,
        "metrics": _describe_training(outcome),
        "proofs": {name: proof.model_dump(mode="json") for name, proof in proofs.items()},
        "note": explain(outcome, plan),
        "warnings": warn(outcome),
        "measured": _measure(plan, outcome, undisturbed_seconds),
    }


def _describe_training(outcome: Outcome) -> dict[str, Any]:
    losses = {
        "validation_loss": outcome.validation_loss(outcome.step),
        "base_validation_loss": outcome.validation_loss(0),
    }
    return {
        "loss": round(outcome.final_loss, 6),
        **{name: None if loss is None else round(loss, 6) for name, loss in losses.items()},
        "step": outcome.step,
        "num_steps": outcome.num_steps,
        "stopped_early": outcome.stopped_early,
        "num_parameters": outcome.num_parameters,
        **outcome.scores.model_dump(),
    }


def _measure(plan: TrainPlan, outcome: Outcome, undisturbed_seconds: float | None) -> dict[str, Any]:
    """The basis of later estimates: only undisturbed jobs give the time outside of steps and samples."""
    per_sample = outcome.seconds_per_step / count_step_samples(plan)
    measured = {"seconds_per_sample": per_sample, "peak_memory_bytes": outcome.peak_memory_bytes}
    per_image = outcome.seconds_per_image
    if undisturbed_seconds is None or per_image is None:
        return measured
    work = count_samples(plan) * per_sample + count_images(plan) * per_image
    return {**measured, "seconds_per_image": per_image, "start_seconds": max(0.0, undisturbed_seconds - work)}
