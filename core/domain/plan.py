"""A plan: a spec in which every open choice is a number (core/domain/resolve.py).

The plan alone decides the adapter's bytes (with the device and the library versions): the trainer reads nothing
else of the job.
"""

from typing import Literal

from pydantic import Field

from core.domain.base import Frozen
from core.domain.dataset import Bucket
from core.domain.model import Family, PredictionType
from core.domain.spec import (
    AdapterType,
    KeptAdapters,
    LossType,
    OptimizerName,
    Precision,
    ScheduleName,
    Targets,
)

NOT_IN_OUTLINE = ("images", "class_images", "prior_prompts", "neutral_prompts")
"""Long lists of a plan, which the API leaves out."""


class PlannedImage(Frozen):
    """One image of the set: the key of its pixels, its training size, its training caption, and how often it occurs
    in an epoch, and how much its loss counts."""

    key: str
    sha256: str
    bucket: Bucket
    caption: str
    plain_caption: str = ""  # without the trigger: it is a class image for this prompt; empty: it is not
    masked: bool = False
    held_out: bool = False
    repeats: int = 1
    weight: float = 1.0


class InitAdapter(Frozen):
    """The adapter to train on from: its file in storage, in either format."""

    id: str
    key: str
    sha256: str


class TrainPlan(Frozen):
    name: str
    trigger: str
    model: str
    model_sha256: str
    model_file_sha256: str | None  # of the single file that the base was converted from
    family: Family
    prediction_type: PredictionType
    dataset_sha256: str
    images: tuple[PlannedImage, ...]
    class_images: tuple[PlannedImage, ...] = ()  # empty: the base draws the class images

    init_adapter: InitAdapter | None
    adapter_type: AdapterType
    rank: int
    alpha: float
    rslora: bool
    targets: Targets
    adapter_dropout: float
    ema: float | None
    text_encoder_rank: int | None  # None: the text encoders are not trained
    text_encoder_learning_rate: float | None
    steps: int
    batch_size: int
    gradient_accumulation: int
    resolution: int
    flip: bool
    masks: bool
    precision: Precision
    gradient_checkpointing: Literal["auto"] | bool
    seed: int

    optimizer: OptimizerName
    learning_rate: float
    weight_decay: float
    betas: tuple[float, float] | None
    schedule: ScheduleName
    warmup_steps: int
    num_cycles: int
    max_grad_norm: float

    loss_type: LossType
    huber_c: float
    min_snr_gamma: float | None
    noise_offset: float
    prior_prompts: tuple[str, ...]
    prior_num_images: int
    prior_batch_size: int | None = None  # in class images
    prior_weight: float
    caption_dropout: float
    caption_shuffle: bool
    caption_keep_tokens: int
    max_token_length: int = Field(75, description="How many tokens of a text are encoded, in chunks of 75.")

    validation_every: int
    patience: int | None
    min_delta: float
    evaluation: bool
    neutral_prompts: tuple[str, ...]
    checkpoint_every: int
    checkpoint_keep: int
    checkpoint_adapters: KeptAdapters = "all"
    sample_prompts: tuple[str, ...]
    sample_every: int
    sample_num_steps: int
    sample_guidance_scale: float
    sample_guidance_rescale: float = 0.0
    sample_guidance_start: float = 0.0
    sample_guidance_stop: float = 1.0
    sample_seed: int
    max_duration_seconds: int | None

    @property
    def training_images(self) -> tuple[PlannedImage, ...]:
        return tuple(image for image in self.images if not image.held_out)

    @property
    def held_out_images(self) -> tuple[PlannedImage, ...]:
        return tuple(image for image in self.images if image.held_out)

    @property
    def class_images_per_batch(self) -> int:
        return (self.prior_batch_size or self.batch_size) if self.prior_num_images else 0

    @property
    def validation_steps(self) -> tuple[int, ...]:
        """The steps after which the held-out loss is taken: every ``validation_every``, and the last."""
        if not self.held_out_images:
            return ()
        return tuple(sorted({*range(self.validation_every, self.steps + 1, self.validation_every), self.steps}))

    @property
    def kept_adapter_steps(self) -> tuple[int, ...]:
        """The steps whose adapter is kept beside the job's own."""
        return () if self.checkpoint_adapters == "best" else self.sample_steps

    @property
    def sample_steps(self) -> tuple[int, ...]:
        """The steps after which a grid is drawn: every ``sample_every``, and the last."""
        if not self.sample_prompts:
            return ()
        return tuple(sorted({*range(self.sample_every, self.steps + 1, self.sample_every), self.steps}))
