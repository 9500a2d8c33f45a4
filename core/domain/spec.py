"""What a client may ask of a training: frozen, unknown fields forbidden, every bound stated once.

Everything but the model and the dataset is optional; ``plan.resolve`` turns what is left open into
numbers. A field exists only if the engine obeys it.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_RANK = 256
MAX_STEPS = 100_000
MAX_RESOLUTION = 2048

Preset = Literal["auto", "subject", "style", "quick"]
AdapterType = Literal["lora", "locon"]
Targets = Literal["attention", "attention_ff", "all"]
Precision = Literal["auto", "bf16", "fp16", "fp32"]

Phrase = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Prompt = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]
Rate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class SpecPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AdapterSpec(SpecPart):
    """LoRA (arXiv 2106.09685): the update is ``alpha / rank * up @ down``.

    ``locon`` adapts the convolutions of the residual blocks and samplers as well (LyCORIS' LoCon).
    """

    type: AdapterType | None = Field(None, description="lora: transformer blocks; locon: convolutions too.")
    rank: int | None = Field(None, ge=1, le=MAX_RANK, description="Width of the low-rank update.")
    alpha: float | None = Field(None, gt=0, le=1024, allow_inf_nan=False, description="Default: the rank.")
    targets: Targets | None = Field(
        None, description="Which layers of the transformer blocks: attention, feed-forward too, or all."
    )


class OptimizerSpec(SpecPart):
    name: Literal["adamw"] = "adamw"
    learning_rate: Rate | None = None
    weight_decay: float = Field(0.01, ge=0, le=1, allow_inf_nan=False)
    betas: tuple[float, float] = (0.9, 0.999)

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("each beta is at least 0 and below 1")
        return betas


class ScheduleSpec(SpecPart):
    name: Literal["constant", "cosine"] | None = None
    warmup_steps: int | None = Field(None, ge=0, le=MAX_STEPS)


class LossSpec(SpecPart):
    min_snr_gamma: float | None = Field(
        None, gt=0, le=100, allow_inf_nan=False, description="arXiv 2303.09556; 5 is usual. Off when absent."
    )
    noise_offset: float = Field(0.0, ge=0, le=1, allow_inf_nan=False, description="Per-channel offset of the noise.")


class CaptionsSpec(SpecPart):
    template: str | None = Field(
        None,
        max_length=500,
        description="How a caption is made, from {trigger} and {caption}. Default: the image's caption, "
        "with the trigger in front where it lacks it.",
    )
    dropout: float = Field(0.0, ge=0, le=1, allow_inf_nan=False, description="Part of captions left empty.")
    shuffle: bool = Field(False, description="Shuffles the comma-separated tags at every use.")
    keep_tokens: int = Field(1, ge=0, le=20, description="Tags at the front that shuffle leaves in place.")

    @field_validator("template")
    @classmethod
    def _known_fields(cls, template: str | None) -> str | None:
        if template is not None:
            try:
                template.format(trigger="", caption="")
            except (KeyError, IndexError, ValueError, AttributeError) as error:
                raise ValueError("only {trigger} and {caption} may stand in braces") from error
        return template


class CheckpointsSpec(SpecPart):
    every: int | None = Field(None, ge=1, le=MAX_STEPS, description="Steps between checkpoints.")
    keep: int = Field(2, ge=1, le=20, description="How many of the newest are kept.")


class SamplesSpec(SpecPart):
    prompts: tuple[Prompt, ...] | None = Field(
        None, max_length=16, description="{trigger} stands for the trigger. An empty list turns samples off."
    )
    every: int | None = Field(
        None, ge=1, le=MAX_STEPS, description="Steps between grids; one is always made at the end."
    )
    num_steps: int | None = Field(None, ge=1, le=150, description="Denoising steps per picture.")
    guidance_scale: float | None = Field(None, ge=1, le=30, allow_inf_nan=False)
    seed: int = Field(0, ge=0, lt=2**32)


class TrainingSpec(SpecPart):
    """The training part of ``POST /jobs``."""

    name: Phrase | None = None
    trigger: Phrase | None = Field(None, description="The phrase that calls the concept in prompts.")
    preset: Preset = "auto"
    adapter: AdapterSpec = AdapterSpec()
    steps: int | None = Field(None, ge=1, le=MAX_STEPS)
    epochs: int | None = Field(None, ge=1, le=10_000)
    batch_size: int | None = Field(None, ge=1, le=256)
    gradient_accumulation: int = Field(1, ge=1, le=256)
    resolution: int | None = Field(None, ge=64, le=MAX_RESOLUTION)
    bucketing: bool = Field(True, description="Keeps aspect ratios by buckets; off: square centre crops.")
    flip: bool = Field(False, description="Adds the mirror image of every picture.")
    precision: Precision = "auto"
    gradient_checkpointing: Literal["auto"] | bool = "auto"
    seed: int = Field(0, ge=0, lt=2**32)
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    loss: LossSpec = LossSpec()
    captions: CaptionsSpec = CaptionsSpec()
    checkpoints: CheckpointsSpec = CheckpointsSpec()
    samples: SamplesSpec = SamplesSpec()
    priority: int = Field(0, ge=-100, le=100, description="Orders your own queued jobs; higher goes first.")
    max_duration_seconds: int | None = Field(None, ge=60, le=7 * 86_400)
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] = Field(
        default_factory=dict, max_length=16
    )

    @model_validator(mode="before")
    @classmethod
    def _no_nulls_needed(cls, data: Any) -> Any:
        """An explicit null is the same as an absent field, so generated clients may send either."""
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        return self
