"""What a client may ask of a training: frozen, unknown fields forbidden, every bound stated once.

Everything but the model and the dataset is optional; ``plan.resolve`` turns what is left open into
numbers. A field exists only if the engine obeys it.
"""

from string import Formatter
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SecretStr,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from core.domain.events import STATUS_EVENTS, EventType
from core.domain.numbers import Number, NumbersOfJson, Truth, Whole
from core.domain.receivers import MAX_URL_LENGTH, Receiver
from core.domain.webhooks import SECRET_PATTERN, check_secret

_TEMPLATE_FIELDS = (("trigger", "", None), ("caption", "", None))

MAX_RANK = 256
MAX_STEPS = 100_000
MIN_RESOLUTION, MAX_RESOLUTION = 64, 2048

Preset = Literal["auto", "subject", "style", "quick"]
AdapterType = Literal["lora", "dora", "locon"]
Targets = Literal["attention", "attention_ff", "all"]
Precision = Literal["auto", "bf16", "fp16", "fp32"]
OptimizerName = Literal["adamw", "adamw8bit", "adafactor", "prodigy", "lion"]
ScheduleName = Literal["constant", "linear", "cosine", "cosine_with_restarts", "polynomial"]
LossType = Literal["l2", "huber"]

Phrase = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Prompt = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]
Rate = Annotated[Number, Field(gt=0, le=1, allow_inf_nan=False)]


class SpecPart(NumbersOfJson):
    model_config = ConfigDict(frozen=True, extra="forbid")
    null_means_off: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        """Generated clients may send either."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key in cls.null_means_off}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The document says that null is taken."""
        described = handler(core_schema)
        whole = handler.resolve_ref_schema(described)
        properties, required = whole["properties"], whole.get("required", [])
        whole["properties"] = {
            name: field if name in required else _or_null(field) for name, field in properties.items()
        }
        return described


_SAID_OF_FIELDS = frozenset({"title", "description", "default"})
_NULL = {"type": "null"}


def _or_null(field: JsonSchemaValue) -> JsonSchemaValue:
    """A field's schema, and null beside it."""
    if "anyOf" in field:
        return {**field, "anyOf": [*(kind for kind in field["anyOf"] if kind != _NULL), _NULL]}
    kind = {key: value for key, value in field.items() if key not in _SAID_OF_FIELDS}
    return {"anyOf": [kind, _NULL], **{key: field[key] for key in _SAID_OF_FIELDS & field.keys()}}


class AdapterSpec(SpecPart):
    """LoRA (arXiv 2106.09685): the update is ``alpha / rank * up @ down``.

    ``dora`` trains each output's magnitude apart from its direction (arXiv 2402.09353); ``locon`` adapts the
    convolutions of the residual blocks and samplers as well (LyCORIS' LoCon).
    """

    type: AdapterType | None = Field(
        None, description="lora: transformer blocks; dora: with magnitudes; locon: convolutions too."
    )
    rank: Whole | None = Field(None, ge=1, le=MAX_RANK, description="Width of the low-rank update.")
    alpha: Number | None = Field(None, gt=0, le=1024, allow_inf_nan=False, description="Default: the rank.")
    rslora: Truth = Field(False, description="Scales by alpha / sqrt(rank) (arXiv 2312.03732): for high ranks.")
    targets: Targets | None = Field(
        None, description="Which layers of the transformer blocks: attention, feed-forward too, or all."
    )
    dropout: Number = Field(0.0, ge=0, lt=1, allow_inf_nan=False, description="Of the adapter's inputs.")
    ema: Number | None = Field(
        None, gt=0, lt=1, description="Decay of an average of the weights, which is then what is sampled and exported."
    )


class TextEncoderSpec(SpecPart):
    """Adapts the text encoders' layers as well."""

    train: Truth = False
    rank: Whole | None = Field(None, ge=1, le=MAX_RANK, description="Default: the adapter's.")
    learning_rate: Rate | None = Field(None, description="Default: half of the optimizer's.")


class OptimizerSpec(SpecPart):
    name: OptimizerName = "adamw"
    learning_rate: Rate | None = Field(
        None, description="Default: the preset's; a third of it for lion; 1 for prodigy."
    )
    weight_decay: Number = Field(0.01, ge=0, le=1, allow_inf_nan=False)
    betas: tuple[Number, Number] | None = Field(
        None, description="Default: 0.9, 0.999; 0.9, 0.99 for lion. Adafactor has none."
    )

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, betas: tuple[Number, Number] | None) -> tuple[Number, Number] | None:
        if betas is not None and not all(0 <= beta < 1 for beta in betas):
            raise ValueError("each beta is at least 0 and below 1")
        return betas

    @model_validator(mode="after")
    def _adafactor_has_no_betas(self) -> Self:
        if self.name == "adafactor" and self.betas is not None:
            raise ValueError("adafactor has no betas: leave them out")
        return self


class ScheduleSpec(SpecPart):
    name: ScheduleName | None = None
    warmup_steps: Whole | None = Field(None, ge=0, le=MAX_STEPS)
    num_cycles: Whole = Field(1, ge=1, le=100, description="Of `cosine_with_restarts`.")


class PriorSpec(SpecPart):
    """Prior preservation (DreamBooth, arXiv 2208.12242, section 3.3): the base draws pictures of the class before
    training, and the adapter is held to what the base says of them."""

    class_prompt: Prompt | None = Field(
        None,
        description="What the subject is one of, such as `a photo of a dog`. Default: the model's own prompts. Of the "
        "dataset's own regularisation images it is the caption of those that have none.",
    )
    num_images: Whole | None = Field(
        None,
        ge=0,
        le=1000,
        description="0 turns it off. Default: the preset's; the dataset's regularisation images where it has any.",
    )
    batch_size: Whole | None = Field(
        None, ge=1, le=64, description="Class pictures in a step. Default: the preset's, or as many as pictures."
    )
    weight: Number | None = Field(None, gt=0, le=10, allow_inf_nan=False, description="Against the pictures' loss.")


class LossSpec(SpecPart):
    null_means_off = frozenset({"min_snr_gamma"})

    type: LossType = Field("l2", description="huber: less is made of outliers (sd-scripts' pseudo-Huber).")
    huber_c: Number = Field(0.1, gt=0, le=10, allow_inf_nan=False, description="Where huber turns linear.")
    min_snr_gamma: Number | None = Field(
        None, gt=0, le=100, allow_inf_nan=False, description="arXiv 2303.09556; 5 is usual. Off when absent."
    )
    noise_offset: Number = Field(0.0, ge=0, le=1, allow_inf_nan=False, description="Per-channel offset of the noise.")
    prior_preservation: PriorSpec = PriorSpec()


class CaptionsSpec(SpecPart):
    template: str | None = Field(
        None,
        max_length=500,
        description="How a caption is made, from {trigger} and {caption}. Default: the image's caption, "
        "with the trigger in front where it lacks it.",
    )
    dropout: Number = Field(0.0, ge=0, le=1, allow_inf_nan=False, description="Part of captions left empty.")
    shuffle: Truth = Field(False, description="Shuffles the comma-separated tags at every use.")
    keep_tokens: Whole = Field(1, ge=0, le=20, description="Tags at the front that shuffle leaves in place.")
    max_token_length: Literal[75, 150, 225] = Field(
        225,
        description="How many tokens of a text are encoded, in chunks of 75 where it is longer (sd-scripts' "
        "max_token_length). What is beyond is cut, the trigger never.",
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
            raise ValueError("only {trigger} and {caption} may stand in braces")
        return template


class EarlyStoppingSpec(SpecPart):
    patience: Whole | None = Field(
        None, ge=1, le=1000, description="Evaluations without a better loss after which training ends. Off when absent."
    )
    min_delta: Number = Field(
        0.0, ge=0, lt=1, allow_inf_nan=False, description="By which part the loss has to fall to count as better."
    )


Fraction = Annotated[
    Literal["auto"] | Number,
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "number", "minimum": 0, "maximum": 0.5}]}),
]


class ValidationSpec(SpecPart):
    """Pictures held out of training, and the loss on them with the same noise and timesteps every time."""

    fraction: Fraction = Field(
        "auto", description="Part of the pictures held out, at most a half; auto: some of 12 or more; 0: none."
    )
    every: Whole | None = Field(None, ge=1, le=MAX_STEPS, description="Steps between evaluations.")
    early_stopping: EarlyStoppingSpec = EarlyStoppingSpec()

    @field_validator("fraction")
    @classmethod
    def _at_most_half(cls, fraction: Fraction) -> Fraction:
        if fraction != "auto" and not 0 <= fraction <= 0.5:
            raise ValueError("give auto, or a part from 0 to 0.5")
        return fraction


class CheckpointsSpec(SpecPart):
    every: Whole | None = Field(None, ge=1, le=MAX_STEPS, description="Steps between checkpoints.")
    keep: Whole = Field(2, ge=1, le=20, description="How many of the newest are kept.")


class SamplesSpec(SpecPart):
    prompts: tuple[Prompt, ...] | None = Field(
        None, max_length=16, description="{trigger} stands for the trigger. An empty list turns samples off."
    )
    every: Whole | None = Field(
        None, ge=1, le=MAX_STEPS, description="Steps between grids; one is always made at the end."
    )
    num_steps: Whole | None = Field(None, ge=1, le=150, description="Denoising steps per picture.")
    guidance_scale: Number | None = Field(None, ge=1, le=30, allow_inf_nan=False)
    guidance_rescale: Number | None = Field(
        None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="How far guidance may not raise the contrast (arXiv 2305.08891).",
    )
    seed: Whole = Field(0, ge=0, lt=2**32)


class WebhookSpec(SpecPart):
    """Where the job tells what happens to it, by Standard Webhooks 1.0."""

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
        description="`whsec_` and the base64 of 24 to 64 random bytes: signs, and is never shown again. Default: your "
        "secret of `GET /webhooks/secret`.",
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

    name: Phrase | None = None
    trigger: Phrase | None = Field(None, description="The phrase that calls the concept in prompts.")
    preset: Preset = "auto"
    init_adapter: str | None = Field(None, max_length=64, description="Id of an adapter to train on from.")
    adapter: AdapterSpec = AdapterSpec()
    text_encoder: TextEncoderSpec = TextEncoderSpec()
    steps: Whole | None = Field(None, ge=1, le=MAX_STEPS)
    epochs: Whole | None = Field(None, ge=1, le=10_000)
    batch_size: Whole | None = Field(None, ge=1, le=256)
    gradient_accumulation: Whole = Field(1, ge=1, le=256)
    resolution: Whole | None = Field(None, ge=MIN_RESOLUTION, le=MAX_RESOLUTION)
    bucketing: Truth = Field(True, description="Keeps aspect ratios by buckets; off: square centre crops.")
    flip: Truth = Field(False, description="Adds the mirror image of every picture.")
    masks: Truth = Field(True, description="Weights the loss by the masks of the pictures that have one.")
    precision: Precision = "auto"
    gradient_checkpointing: Literal["auto"] | Truth = "auto"
    seed: Whole = Field(0, ge=0, lt=2**32)
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    loss: LossSpec = LossSpec()
    captions: CaptionsSpec = CaptionsSpec()
    validation: ValidationSpec = ValidationSpec()
    checkpoints: CheckpointsSpec = CheckpointsSpec()
    samples: SamplesSpec = SamplesSpec()
    evaluation: Literal["on", "off"] = Field("on", description="Concept and retention scores at the end.")
    priority: Whole = Field(0, ge=-100, le=100, description="Orders your own queued jobs; higher goes first.")
    max_duration_seconds: Whole | None = Field(None, ge=60, le=7 * 86_400)
    webhook: WebhookSpec | None = None
    metadata: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] = Field(
        default_factory=dict, max_length=16
    )

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        return self
