"""The training spec of a client: frozen, unknown fields forbidden, every bound stated once.

Everything but the model and the dataset is optional; ``resolve`` turns open choices into numbers. Every field affects
the training.
"""

from string import Formatter
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, WithJsonSchema, field_validator, model_validator

from core.domain.events import STATUS_EVENTS, EventType
from core.domain.numbers import StrictBool, StrictFloat, StrictInt
from core.domain.phrases import Phrase, Prompt, is_blank
from core.domain.receivers import MAX_URL_LENGTH, Receiver
from core.domain.spec_part import SpecPart
from core.domain.webhooks import SECRET_PATTERN, check_secret

_TEMPLATE_FIELDS = (("trigger", "", None), ("caption", "", None))

MAX_RANK, MAX_STEPS = 256, 100_000
MIN_RESOLUTION, MAX_RESOLUTION = 64, 2048

Preset = Literal["auto", "subject", "style", "quick"]
AdapterType = Literal["lora", "dora", "locon"]
Targets = Literal["attention", "attention_ff", "all"]
Precision = Literal["auto", "bf16", "fp16", "fp32"]
OptimizerName = Literal["adamw", "adamw8bit", "adafactor", "prodigy", "lion"]
CUDA_OPTIMIZERS: frozenset[OptimizerName] = frozenset({"adamw8bit"})
"""Optimizers that run only on CUDA devices."""
ScheduleName = Literal["constant", "linear", "cosine", "cosine_with_restarts", "polynomial"]
LossType = Literal["l2", "huber"]
KeptAdapters = Literal["all", "best", "last"]

Rate = Annotated[StrictFloat, Field(gt=0, le=1, allow_inf_nan=False)]


class AdapterSpec(SpecPart):
    """LoRA (arXiv 2106.09685): the update is ``alpha / rank * up @ down``.

    ``dora`` trains each output's magnitude apart from its direction (arXiv 2402.09353); ``locon`` also adapts the
    convolutions of the residual blocks and samplers (LyCORIS' LoCon).
    """

    type: AdapterType | None = Field(
        None, description="lora: transformer blocks; dora: with magnitudes; locon: convolutions too."
    )
    rank: StrictInt | None = Field(None, ge=1, le=MAX_RANK, description="The rank of the update.")
    alpha: StrictFloat | None = Field(None, gt=0, le=1024, allow_inf_nan=False, description="Default: the rank.")
    rslora: StrictBool = Field(False, description="Scales by alpha / sqrt(rank) (arXiv 2312.03732): for high ranks.")
    targets: Targets | None = Field(
        None, description="Which layers of the transformer blocks: attention, feed-forward too, or all."
    )
    dropout: StrictFloat = Field(0.0, ge=0, lt=1, allow_inf_nan=False, description="Dropout of the adapter's inputs.")
    ema: StrictFloat | None = Field(
        None, gt=0, lt=1, description="Decay of the weights' moving average, which is then sampled and exported."
    )


class TextEncoderSpec(SpecPart):
    """Also adapts the text encoders' layers."""

    train: StrictBool = Field(False, description="Train them; otherwise the other two fields are refused.")
    rank: StrictInt | None = Field(None, ge=1, le=MAX_RANK, description="Default: the adapter's.")
    learning_rate: Rate | None = Field(None, description="Default: half of the optimizer's.")


class OptimizerSpec(SpecPart):
    """The optimizer and its learning rate."""

    name: OptimizerName = Field(
        "adamw",
        description="adamw; adamw8bit, only on CUDA devices; adafactor with a fixed learning rate; prodigy, which "
        "finds its own; lion, which starts from a third of the rate.",
    )
    learning_rate: Rate | None = Field(
        None, description="Default: the preset's; a third of it for lion; 1 for prodigy."
    )
    weight_decay: StrictFloat = Field(
        0.01, ge=0, le=1, allow_inf_nan=False, description="How strongly weights decay towards 0 (decoupled)."
    )
    betas: tuple[StrictFloat, StrictFloat] | None = Field(
        None, description="Default: 0.9, 0.999; 0.9, 0.99 for lion. Adafactor has none."
    )

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, betas: tuple[StrictFloat, StrictFloat] | None) -> tuple[StrictFloat, StrictFloat] | None:
        if betas is not None and not all(0 <= beta < 1 for beta in betas):
            raise ValueError("each beta must be at least 0 and below 1")
        return betas

    @model_validator(mode="after")
    def _adafactor_has_no_betas(self) -> Self:
        if self.name == "adafactor" and self.betas is not None:
            raise ValueError("adafactor has no betas: leave them out")
        return self


class ScheduleSpec(SpecPart):
    """The schedule of the learning rate, after a linear warm-up (diffusers' schedules)."""

    name: ScheduleName | None = Field(None, description="Default: the model's.")
    warmup_steps: StrictInt | None = Field(
        None, ge=0, le=MAX_STEPS, description="Fewer than all steps. Default: a tenth of them, at most 100."
    )
    num_cycles: StrictInt = Field(1, ge=1, le=100, description="Of `cosine_with_restarts`.")


class PriorSpec(SpecPart):
    """Prior preservation (DreamBooth, arXiv 2208.12242, section 3.3): the base draws class images before training, and
    the adapter must keep the base's predictions for them."""

    class_prompt: Prompt | None = Field(
        None,
        description="The class of the subject, such as `a photo of a dog`. Default: the model's own prompts. For the "
        "dataset's own regularisation images it is the caption of those without one.",
    )
    num_images: StrictInt | None = Field(
        None,
        ge=0,
        le=1000,
        description="0 turns it off. Default: the preset's; the dataset's regularisation images if it has any.",
    )
    batch_size: StrictInt | None = Field(
        None, ge=1, le=64, description="Class images per step. Default: the preset's, or as many as images."
    )
    weight: StrictFloat | None = Field(None, gt=0, le=10, allow_inf_nan=False, description="The weight of this loss.")


class LossSpec(SpecPart):
    """The training loss and its parts."""

    null_means_off = frozenset({"min_snr_gamma"})

    type: LossType = Field("l2", description="huber: outliers count less (sd-scripts' pseudo-Huber).")
    huber_c: StrictFloat = Field(0.1, gt=0, le=10, allow_inf_nan=False, description="Where huber becomes linear.")
    min_snr_gamma: StrictFloat | None = Field(
        None, gt=0, le=100, allow_inf_nan=False, description="arXiv 2303.09556; 5 is usual. Off when absent."
    )
    noise_offset: StrictFloat = Field(
        0.0, ge=0, le=1, allow_inf_nan=False, description="Per-channel offset of the noise."
    )
    prior_preservation: PriorSpec = Field(
        PriorSpec(),
        description="Preserves the base's knowledge of the subject's class. Default: the model's.",
    )


class CaptionsSpec(SpecPart):
    """The captions of the images in training."""

    template: str | None = Field(
        None,
        max_length=500,
        description="Template of a caption, from {trigger} and {caption}. Default: the image's caption, with the "
        "trigger in front if it lacks it.",
    )
    dropout: StrictFloat = Field(0.0, ge=0, le=1, allow_inf_nan=False, description="Fraction of captions left empty.")
    shuffle: StrictBool = Field(False, description="Shuffles the comma-separated tags at every use.")
    keep_tokens: StrictInt = Field(1, ge=0, le=20, description="Tags at the front that are not shuffled.")
    max_token_length: Literal[75, 150, 225] = Field(
        225,
        description="How many tokens of a text are encoded, in chunks of 75 (sd-scripts' max_token_length). The rest "
        "is cut, but never the trigger.",
    )

    @field_validator("template")
    @classmethod
    def _known_fields(cls, template: str | None) -> str | None:
        """No attributes, conversions or widths: `{trigger:>1000000000}` would take a gigabyte."""
        try:
            parts = list(Formatter().parse(template or ""))
        except ValueError:
            parts = [("", "", "", None)]
        if not all(part[1] is None or part[1:] in _TEMPLATE_FIELDS for part in parts):
            raise ValueError("only {trigger} and {caption} are allowed in braces")
        if template is not None and is_blank(template):
            raise ValueError("is blank: give text, {trigger} or {caption}, or leave it out")
        return template


class EarlyStoppingSpec(SpecPart):
    """Ends training when the held-out loss stops falling."""

    patience: StrictInt | None = Field(
        None, ge=1, le=1000, description="Evaluations without an improvement before training ends. Off when absent."
    )
    min_delta: StrictFloat = Field(
        0.0, ge=0, lt=1, allow_inf_nan=False, description="The relative drop of the loss that counts as an improvement."
    )


Fraction = Annotated[
    Literal["auto"] | StrictFloat,
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "number", "minimum": 0, "maximum": 0.5}]}),
]


class ValidationSpec(SpecPart):
    """Images held out of training, and the loss on them, always with the same noise and timesteps."""

    fraction: Fraction = Field(
        "auto", description="Fraction of the images held out, at most a half; auto: some of 12 or more; 0: none."
    )
    every: StrictInt | None = Field(None, ge=1, le=MAX_STEPS, description="Steps between evaluations.")
    early_stopping: EarlyStoppingSpec = Field(
        EarlyStoppingSpec(), description="Ends training when the held-out loss stops falling. Off by default."
    )

    @field_validator("fraction")
    @classmethod
    def _at_most_half(cls, fraction: Fraction) -> Fraction:
        if fraction != "auto" and not 0 <= fraction <= 0.5:
            raise ValueError("must be auto, or a fraction from 0 to 0.5")
        return fraction


class CheckpointsSpec(SpecPart):
    """Saved training states, to continue from after an interruption, and the adapters of steps."""

    every: StrictInt | None = Field(
        None, ge=1, le=MAX_STEPS, description="Steps between checkpoints. Default: a fifth of all, at least 25."
    )
    keep: StrictInt = Field(2, ge=1, le=20, description="How many of the newest checkpoints are kept.")
    adapters: KeptAdapters = Field(
        "all", description="Of which steps. all: those with samples; last: the newest of them; best: the job's own."
    )


class SamplesSpec(SpecPart):
    """Images drawn during training, beside the base's own."""

    prompts: tuple[Prompt, ...] | None = Field(
        None,
        max_length=16,
        description="{trigger} is replaced by the trigger. An empty list turns samples off. Default: the model's own, "
        "or three captions of the set if there is no trigger.",
    )
    every: StrictInt | None = Field(
        None, ge=1, le=MAX_STEPS, description="Steps between grids; one is always drawn at the end."
    )
    num_steps: StrictInt | None = Field(
        None, ge=1, le=150, description="Denoising steps per image. Default: the model's."
    )
    guidance_scale: StrictFloat | None = Field(
        None,
        ge=1,
        le=30,
        allow_inf_nan=False,
        description="How strongly an image follows its prompt (arXiv 2207.12598); 1: off. Default: the model's.",
    )
    guidance_rescale: StrictFloat | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Strength of the guidance rescale, which limits contrast (arXiv 2305.08891).",
    )
    guidance_start: StrictFloat | None = Field(
        None, ge=0, lt=1, description="The fraction of the steps after which guidance starts (arXiv 2404.07724)."
    )
    guidance_stop: StrictFloat | None = Field(
        None, gt=0, le=1, description="The fraction of the steps after which guidance ends."
    )
    seed: StrictInt = Field(0, ge=0, lt=2**32, description="The seed of the images' noise, the same in every grid.")


class WebhookSpec(SpecPart):
    """The receiver of the job's events, by Standard Webhooks 1.0."""

    url: str = Field(
        max_length=MAX_URL_LENGTH,
        json_schema_extra={"format": "uri", "pattern": "^https?://"},
        description="http or https, on the public internet.",
    )
    events: tuple[EventType, ...] = Field(
        STATUS_EVENTS,
        max_length=len(EventType),
        json_schema_extra={"minItems": 1},
        description="Default: every change of status.",
    )
    secret: SecretStr | None = Field(
        None,
        json_schema_extra={"pattern": SECRET_PATTERN},
        description="`whsec_` and the base64 of 24 to 64 random bytes; signs, and is never shown again. Default: your "
        "secret from `GET /webhooks/secret`.",
    )

    @field_validator("url")
    @classmethod
    def _url_of_a_receiver(cls, url: str) -> str:
        Receiver.parse(url)
        return url

    @field_validator("events")
    @classmethod
    def _at_least_one(cls, events: tuple[EventType, ...]) -> tuple[EventType, ...]:
        if not events:
            raise ValueError("must name at least one event")
        return events

    @field_validator("secret")
    @classmethod
    def _secret_of_standard_webhooks(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            check_secret(secret.get_secret_value())
        return secret


class TrainingSpec(SpecPart):
    """The training part of ``POST /jobs``."""

    name: Phrase | None = Field(None, description="The name of the job and its adapter. Default: the trigger.")
    trigger: Phrase | None = Field(
        None,
        description="The phrase that invokes the concept in prompts. It is put in front of captions that lack it, and "
        "is the caption of images without one; required if the dataset has no captions.",
    )
    preset: Preset = Field(
        "auto",
        description="auto and subject: one character, object or person, by the model's own numbers; style: a way of "
        "drawing, with half as many steps more and all layers of the transformer blocks; quick: a first look, with two "
        "fifths of the steps.",
    )
    init_adapter: str | None = Field(None, max_length=64, description="Id of an adapter to start from.")
    adapter: AdapterSpec = Field(AdapterSpec(), description="Type and size of the adapter. Default: the model's.")
    text_encoder: TextEncoderSpec = Field(
        TextEncoderSpec(), description="Whether the text encoders are adapted too. Default: no."
    )
    steps: StrictInt | None = Field(
        None,
        ge=1,
        le=MAX_STEPS,
        description="The number of optimizer steps. Default: by the number of images and the preset.",
    )
    epochs: StrictInt | None = Field(
        None, ge=1, le=10_000, description="Instead of steps: how many times every image is seen."
    )
    batch_size: StrictInt | None = Field(
        None, ge=1, le=256, description="Images per forward pass. Default: the model's, or the number of images."
    )
    gradient_accumulation: StrictInt = Field(
        1, ge=1, le=256, description="Forward passes per step; times batch_size it is the effective batch size."
    )
    resolution: StrictInt | None = Field(
        None,
        ge=MIN_RESOLUTION,
        le=MAX_RESOLUTION,
        description="The side of a square in pixels; other aspects get the same area. Default: the model's.",
    )
    bucketing: StrictBool = Field(True, description="Keeps aspect ratios by buckets; off: square centre crops.")
    flip: StrictBool = Field(False, description="Adds the mirror image of every image.")
    masks: StrictBool = Field(True, description="Weights the loss by the masks of images that have one.")
    precision: Precision = Field(
        "auto",
        description="auto: bf16 if the hardware has it, fp16 with a loss scaler on older GPUs, fp32 on older CPUs.",
    )
    gradient_checkpointing: Literal["auto"] | StrictBool = Field(
        "auto",
        description="Saves memory and takes about a third longer; auto: on where the job would not fit otherwise.",
    )
    seed: StrictInt = Field(
        0,
        ge=0,
        lt=2**32,
        description="The seed of all random draws: equal seeds and plans on equal machines give equal bytes.",
    )
    optimizer: OptimizerSpec = Field(OptimizerSpec(), description="The optimizer. Default: AdamW.")
    schedule: ScheduleSpec = Field(
        ScheduleSpec(), description="The schedule of the learning rate. Default: the model's."
    )
    loss: LossSpec = Field(LossSpec(), description="The training loss. Default: the model's.")
    captions: CaptionsSpec = Field(
        CaptionsSpec(), description="The captions in training. Default: the images' own, with the trigger in front."
    )
    validation: ValidationSpec = Field(
        ValidationSpec(), description="Images held out to choose the best step. Default: some of 12 or more."
    )
    checkpoints: CheckpointsSpec = Field(
        CheckpointsSpec(), description="How often the training state is saved. Default: five times."
    )
    samples: SamplesSpec = Field(
        SamplesSpec(), description="Images drawn during training. Default: three grids of the model's prompts."
    )
    evaluation: Literal["on", "off"] = Field("on", description="The retention score at the end.")
    priority: StrictInt = Field(0, ge=-100, le=100, description="Orders your own queued jobs; higher goes first.")
    max_duration_seconds: StrictInt | None = Field(
        None, ge=60, le=7 * 86_400, description="The job fails after this working time. Default: no limit."
    )
    webhook: WebhookSpec | None = Field(None, description="The receiver of the job's events.")
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] = Field(
        default_factory=dict, max_length=16, description="Your own strings, returned with the job."
    )

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        return self
