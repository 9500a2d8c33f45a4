"""What the house knows about a base model, and where the numbers of its presets come from."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from core.domain.spec import AdapterType, Targets

Family = Literal["sd1"]
ModelStatus = Literal["ready", "checking", "rejected"]


class Defaults(BaseModel):
    """What the presets start from. A family has its own; a model's card may override any of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter_type: AdapterType
    rank: int
    targets: Targets
    learning_rate: float
    schedule: Literal["constant", "cosine"]
    batch_size: int
    steps_per_image: float
    min_steps: int
    max_steps: int
    min_snr_gamma: float | None
    sample_num_steps: int
    sample_guidance_scale: float


FAMILY_DEFAULTS: dict[Family, Defaults] = {
    # Near what diffusers' train_text_to_image_lora.py and kohya's guides use for 10 to 50 pictures.
    "sd1": Defaults(
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
    ),
}


class Calibration(BaseModel):
    """One measured training, from which an estimate is scaled when no job has run here yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = Field(description="Such as `cpu x2`; shown with the estimate.")
    resolution: int
    seconds_per_sample: float
    start_seconds: float = Field(description="Loading, caching and exporting together.")
    seconds_per_picture: float = Field(description="One sample picture at the model's default number of steps.")
    base_memory_bytes: int
    memory_bytes_per_sample: int


class ModelInfo(BaseModel):
    """A registered base. ``num_parameters`` counts the denoiser's.

    ``adapter_dims["lora/attention"]`` (type and targets) is the sum of (inputs + outputs) over the layers that
    they adapt: rank times it is the number of an adapter's parameters.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    family: Family
    resolution: int
    resolution_step: int
    sha256: str
    num_parameters: int
    adapter_dims: dict[str, int]
    defaults: Defaults
    calibration: Calibration | None = None
    description: str = ""
    example_prompts: tuple[str, ...] = ()
