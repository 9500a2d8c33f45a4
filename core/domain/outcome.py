"""The result of a finished training: its figures, and one sentence for people."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from core.domain.artifacts import ADAPTER_FORMATS
from core.domain.base import Frozen
from core.domain.counts import counted
from core.domain.plan import TrainPlan
from core.domain.resolve import MIN_IMAGES_TO_HOLD_OUT
from core.domain.tokens import MAX_TOKEN_LENGTH

LOW_RETENTION = 0.6
"""Below this, images for prompts without the trigger differ visibly from the base's."""


class Scores(Frozen):
    """From 0 to 1, or None if nothing could be measured. See worker/engine/training/scores.py."""

    retention: float | None = Field(None, description="How much of its behaviour on neutral prompts the base keeps.")


class Outcome(Frozen):
    """``step``: the adapter's weights are from this step; ``num_steps``: how many were trained. Times in seconds."""

    step: int
    num_steps: int
    stopped_early: bool
    final_loss: float
    held_out_losses: tuple[tuple[int, float], ...]  # (step, loss); step 0 is the base's
    scores: Scores
    num_parameters: int
    seconds_per_step: float
    seconds_per_image: float | None  # None if no samples were drawn
    peak_memory_bytes: int
    num_cut: int = 0  # images whose caption was longer than the encoded part

    def validation_loss(self, step: int) -> float | None:
        return dict(self.held_out_losses).get(step)


def summarize(job_id: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """A succeeded job's result as ``GET /jobs/{id}`` shows it, without the proofs, which are long."""
    url = f"/jobs/{job_id}"
    files, step = result.get("adapter", {}), result.get("samples")
    return {
        "adapter": {
            name: {"url": f"{url}/adapter?format={name}", **files[f"adapter-{name}"]}
            for name in ADAPTER_FORMATS
            if f"adapter-{name}" in files
        },
        "adapter_id": result.get("adapter_id"),
        "samples": None
        if step is None
        else {"step": step, "url": f"{url}/samples", "grid_url": f"{url}/samples/{step}/grid.png"},
        "metrics": {**result.get("metrics", {}), **result.get("measured", {})},
        "note": result.get("note"),
        "warnings": result.get("warnings", []),
    }


def list_verdicts(result: Mapping[str, Any]) -> dict[str, dict[str, str | None]]:
    """Each tool's verdict on each format: most readers need no more of the proofs."""
    proofs: Mapping[str, Mapping[str, Any]] = result.get("proofs", {})
    return {name: {tool["tool"]: tool["verdict"] for tool in proof["tools"]} for name, proof in proofs.items()}


def warn(outcome: Outcome) -> list[str]:
    """Warnings that a client should read before using the adapter."""
    warnings, retention = [], outcome.scores.retention
    if _never_improved(outcome):
        warnings.append(
            "The adapter may not have learned the concept: its loss on the held-out images never fell below the base "
            "model's. Look at the samples; if they do not show it, train longer or with a higher learning rate."
        )
    if retention is not None and retention < LOW_RETENTION:
        warnings.append(
            f"The adapter also changes images for prompts without the trigger (retention {retention:.2f}; 1 means "
            "unchanged). Use the adapter at a lower weight, or train again with fewer steps, a lower learning rate or "
            "more class images (loss.prior_preservation)."
        )
    return warnings


def _never_improved(outcome: Outcome) -> bool:
    held_out = dict(outcome.held_out_losses)
    trained = [loss for step, loss in held_out.items() if step > 0]
    return bool(trained) and min(trained) >= held_out[0]


def explain(outcome: Outcome, plan: TrainPlan) -> str:
    """Which step was promoted, why training ended, and which captions were cut."""
    return f"{_explain_end(outcome, plan)} {describe_cut(outcome.num_cut, plan)}".strip()


def describe_cut(num_cut: int, plan: TrainPlan) -> str:
    """Empty if every caption was encoded whole."""
    if not num_cut:
        return ""
    longer = f"{num_cut} of {counted(len(plan.images), 'caption')} {'are' if num_cut > 1 else 'is'} longer than"
    kept = "; the trigger is kept" if plan.trigger else ""
    more = "" if plan.max_token_length == MAX_TOKEN_LENGTH else f" captions.max_token_length may be {MAX_TOKEN_LENGTH}."
    return f"{longer} {plan.max_token_length} tokens; the rest is not trained{kept}.{more}"


def _explain_end(outcome: Outcome, plan: TrainPlan) -> str:
    if not outcome.held_out_losses:
        few = len(plan.images) < MIN_IMAGES_TO_HOLD_OUT
        too_few = f"sets of fewer than {MIN_IMAGES_TO_HOLD_OUT} images hold out none"
        why = too_few if few else "validation was turned off"
        return f"The adapter is from the last step, {outcome.step}: there were no held-out images to choose by ({why})."
    if _never_improved(outcome):
        held_out = counted(len(plan.held_out_images), "held-out image")
        return (
            f"The adapter is from the last step, {outcome.step}: the loss on the {held_out} never fell below the "
            "base model's, so it could not choose a step. Look at the samples, or hold out more images."
        )
    end = f"Training ran {'its 1 step' if plan.steps == 1 else f'all {plan.steps:,} steps'}"
    if outcome.stopped_early:
        waited = counted(plan.patience or 0, "evaluation")
        end = f"Training ended at step {outcome.num_steps} of {plan.steps}, with {waited} not better"
    chosen = "the latest step whose held-out loss is not significantly worse than the best one"
    return f"{end}. The adapter is from step {outcome.step}: {chosen}."
