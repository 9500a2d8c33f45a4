"""What a finished training says of itself, in numbers and in a sentence."""

from pydantic import BaseModel, ConfigDict, Field

from core.domain.artifacts import AdapterFormat
from core.domain.plan import MIN_IMAGES_TO_HOLD_OUT, TrainPlan
from core.domain.proof import LoadProof


class Scores(BaseModel):
    """From 0 to 1, or None where there was nothing to measure. See worker/training/scores.py."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    retention: float | None = Field(None, description="How much of its answers to neutral prompts the base keeps.")
    concept: float | None = Field(None, description="The share of the samples in which the concept is there.")
    concept_reference: str | None = Field(None, description="Whose captions its samples were drawn for.")


class Outcome(BaseModel):
    """``step``: the one whose weights the adapter has; ``num_steps``: how many were trained. Times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    num_steps: int
    stopped_early: bool
    final_loss: float
    held_out_losses: tuple[tuple[int, float], ...]  # (step, loss); step 0 is the base's
    scores: Scores
    proofs: dict[AdapterFormat, LoadProof]
    num_parameters: int
    seconds_per_step: float
    seconds_per_picture: float | None  # None where no samples were drawn
    peak_memory_bytes: int

    def validation_loss(self, step: int) -> float | None:
        return dict(self.held_out_losses).get(step)


def explain(outcome: Outcome, plan: TrainPlan) -> str:
    """Which step's weights were taken, and why training ended where it did."""
    if not outcome.held_out_losses:
        few = len(plan.images) < MIN_IMAGES_TO_HOLD_OUT
        few_told = f"sets of fewer than {MIN_IMAGES_TO_HOLD_OUT} images hold none out by themselves"
        why = few_told if few else "validation was turned off"
        return f"The adapter is that of the last step, {outcome.step}: nothing was held out to choose by ({why})."
    if min(loss for step, loss in outcome.held_out_losses if step > 0) >= outcome.held_out_losses[0][1]:
        count = len(plan.held_out_images)
        return (
            f"The adapter is that of the last step, {outcome.step}: the loss on the {count} held-out images never fell "
            "below the base's, so nothing could be chosen by it. Look at the samples, or hold out more images."
        )
    end = f"Training ran all {plan.steps} steps"
    if outcome.stopped_early:
        end = f"Training ended at step {outcome.num_steps} of {plan.steps}, with {plan.patience} evaluations not better"
    chosen = "the latest whose loss on the held-out images is not measurably worse than the best"
    return f"{end}; the adapter is that of step {outcome.step}, {chosen}."
