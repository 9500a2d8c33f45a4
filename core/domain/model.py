"""The card of a base model; the families there are, and the source of their presets' values."""

from typing import Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from core.domain.base import Frozen
from core.domain.counts import listed
from core.domain.memory_table import MemoryTable
from core.domain.spec import AdapterType, ScheduleName, Targets

Family = Literal["sd1", "sd2", "sdxl"]
PredictionType = Literal["epsilon", "v_prediction", "flow"]


class Defaults(Frozen):
    """The starting values of the presets. Each family has its own; a model's card may override any of them."""

    adapter_type: AdapterType
    rank: int
    targets: Targets
    learning_rate: float
    schedule: ScheduleName
    batch_size: int
    steps_per_image: float
    min_steps: int
    max_steps: int
    min_snr_gamma: float | None
    sample_num_steps: int
    sample_guidance_scale: float
    sample_guidance_rescale: float = 0.0
    sample_guidance_start: float = 0.0
    sample_guidance_stop: float = 1.0
    ema: float | None = None
    prior_num_images: int = 0
    prior_batch_size: int | None = None  # None: as many as images
    prior_weight: float = 1.0


# Near what diffusers' train_text_to_image_lora.py and kohya's guides use for 10 to 50 images.
_SD1 = Defaults(
    adapter_type="lora",
    rank=16,
    targets="attention",
    learning_rate=1e-4,
    schedule="cosine",
    batch_size=1,
    steps_per_image=80,
    min_steps=800,
    max_steps=3000,
    min_snr_gamma=5.0,
    sample_num_steps=25,
    sample_guidance_scale=7.5,
)

_SD1_PARTS = ("scheduler", "tokenizer", "text_encoder", "unet", "vae")


class FamilyFacts(Frozen):
    """What the API and the command line know of a family. ``parts``: the folders of a base in diffusers' layout."""

    title: str
    parts: tuple[str, ...]
    defaults: Defaults
    hub_tag: str = "stable-diffusion"  # by which the Hub finds it


FAMILY_FACTS: dict[Family, FamilyFacts] = {
    "sd1": FamilyFacts(title="SD 1.x", parts=_SD1_PARTS, defaults=_SD1),
    "sd2": FamilyFacts(title="SD 2.x", parts=_SD1_PARTS, defaults=_SD1),
    "sdxl": FamilyFacts(
        title="SDXL",
        parts=(*_SD1_PARTS, "tokenizer_2", "text_encoder_2"),
        # The scale in diffusers' and Stability's own examples for SDXL.
        defaults=_SD1.model_copy(update={"sample_guidance_scale": 5.0}),
        hub_tag="stable-diffusion-xl",
    ),
}
FAMILY_DEFAULTS: dict[Family, Defaults] = {family: facts.defaults for family, facts in FAMILY_FACTS.items()}

PARTS = tuple(dict.fromkeys(part for facts in FAMILY_FACTS.values() for part in facts.parts))
"""The folders that bases in diffusers' layout have; some only those of some families."""

HUB_EXAMPLE = ("stabilityai/stable-diffusion-xl-base-1.0", "sdxl")
"""A repository of the Hub, and an id for it, in the documentation of the API and the command line."""


def name_families(conjunction: str = "and") -> str:
    """``SD 1.x, SD 2.x and SDXL``."""
    return listed([facts.title for facts in FAMILY_FACTS.values()], conjunction)


class Calibration(Frozen):
    """A few timed steps, from which an estimate is scaled while no job has run here. They are in the bundled base's
    card; on other bases the first idle worker measures them after the registration."""

    device: str = Field(description="Such as `cpu x2`; shown with the estimate.")
    resolution: int
    seconds_per_sample: float = Field(description="Of a step, for each image in its batch.")
    start_seconds: float = Field(description="Loading, caching and exporting together.")
    seconds_per_image: float = Field(
        validation_alias=AliasChoices("seconds_per_image", "seconds_per_picture"),  # the second in cards of 0.1.0
        description="One sample image at the model's default number of steps.",
    )
    base_memory_bytes: int | None = Field(None, description="None where the base's memory is traced.")
    memory_bytes_per_sample: int = Field(0, description="A step's, for each image in its batch.")


NEUTRAL_PROMPTS = (
    "a photo of a dog in a park",
    "a portrait of an old man with a beard",
    "a bowl of fruit on a wooden table",
    "a city street at night in the rain",
    "a mountain lake at sunrise",
    "a red car in front of a house",
    "a watercolor painting of a sailing ship",
    "a cup of coffee next to a book",
)


class ModelInfo(BaseModel):
    """A registered base. ``num_parameters`` counts the denoiser's.

    ``adapter_dims["lora/attention"]`` (type and targets) is the sum of (inputs + outputs) over the adapted layers:
    times the rank it is the number of an adapter's parameters.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    family: Family
    prediction_type: PredictionType = "epsilon"
    resolution: int
    resolution_step: int
    sha256: str
    num_parameters: int
    adapter_dims: dict[str, int]
    defaults: Defaults
    calibration: Calibration | None = None
    memory: MemoryTable | None = Field(None, description="None in older cards, and where it was not traced.")
    file_sha256: str | None = Field(None, description="Of the single file it was converted from: its name elsewhere.")
    description: str = ""
    example_prompts: tuple[str, ...] = ()
    class_prompts: tuple[str, ...] = Field((), description="The prompts of class images if no class is given.")
    neutral_prompts: tuple[str, ...] = Field(
        NEUTRAL_PROMPTS, description="The prompts of the retention score; none of them should be a class prompt."
    )

    @field_validator("memory", mode="wrap")
    @classmethod
    def _drop_other_versions(cls, value: Any, validate: ValidatorFunctionWrapHandler) -> MemoryTable | None:
        """A table that another version wrote must not make its base unusable."""
        try:
            table: MemoryTable | None = validate(value)
            return table
        except ValidationError:
            return None
