"""The memory that a plan takes on a device, phase by phase, from the table in its base's card."""

from dataclasses import dataclass
from typing import Literal

from core.domain.generation import GenerationPlan
from core.domain.memory_table import MemoryTable, Numerics, Peak
from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan
from core.domain.spec import OptimizerName
from core.domain.tokens import TOKENS_PER_CHUNK

DeviceKind = Literal["cpu", "cuda"]

PROCESS_BYTES: dict[DeviceKind, int] = {"cpu": 560_000_000, "cuda": 0}
"""The trainer's libraries, where they are in the device's memory."""
WORKSPACE_BYTES_PER_WEIGHT: dict[DeviceKind, int] = {"cpu": 8, "cuda": 0}
"""For each weight of the largest layer: oneDNN's copies of it in its own layout, and gaps in the heap. Measured
(docs/benchmarks.md); tracing does not see it."""
SAMPLES_AT_ONCE, PIXELS_AT_ONCE = 4, 4 * 512 * 512
CLASS_IMAGES_AT_ONCE = 8
NUM_VALIDATION_TIMESTEPS = 8
"""The number of timesteps for each held-out image's loss, all of them at once."""

BYTES_PER_VALUE = 4
"""Of the adapter's weights, their gradients and the optimizer's state, which are all in fp32."""
OPTIMIZER_VALUES: dict[OptimizerName, float] = {
    "adamw": 2, "adamw8bit": 0.5, "adafactor": 0.1, "prodigy": 4, "lion": 1,
}  # fmt: skip
"""An optimizer's state for each parameter."""


@dataclass(frozen=True)
class Setting:
    """How a device runs a plan. ``samples_per_pass``: None if a micro-batch goes through the network as a whole."""

    numerics: Numerics
    checkpointing: bool
    samples_per_pass: int | None = None


def choose_numerics(kind: DeviceKind, precision: str) -> Numerics:
    """``precision``: of a runtime; ``auto`` counts as 16 bits."""
    if precision == "fp32":
        return "fp32"
    return "cuda16" if kind == "cuda" else "cpu16"


def predict_peak(plan: TrainPlan, model: ModelInfo, kind: DeviceKind, setting: Setting) -> int:
    """Bytes on a device of this kind, with the trainer's process if it is a CPU. Needs the base's table."""
    return predict_overhead(model, kind) + max(predict_phases(plan, model, setting).values())


def count_images_at_once(plan: GenerationPlan) -> int:
    return max(1, min(SAMPLES_AT_ONCE, PIXELS_AT_ONCE // (plan.width * plan.height)))


def predict_generation(plan: GenerationPlan, model: ModelInfo, kind: DeviceKind, numerics: Numerics) -> int:
    """Bytes that images take, with the base and without the adapters' own weights."""
    denoiser = (4 if numerics == "fp32" else 2) * model.num_parameters
    return predict_overhead(model, kind) + denoiser + predict_drawing(plan, model, numerics)


def predict_drawing(plan: GenerationPlan, model: ModelInfo, numerics: Numerics) -> int:
    """Bytes that images take beside the denoiser."""
    assert model.memory is not None
    table = model.memory
    passes, area = table.passes[numerics], plan.width * plan.height / table.resolution**2
    return max(
        4 * table.text_encoder_parameters + table.text_encoding.at(1),
        passes.prediction.at(2 * count_images_at_once(plan) * area),  # with and without the prompt
        4 * table.vae_parameters + passes.decoding.at(area),
    )


def predict_overhead(model: ModelInfo, kind: DeviceKind) -> int:
    """Beside the tensors."""
    assert model.memory is not None
    return PROCESS_BYTES[kind] + WORKSPACE_BYTES_PER_WEIGHT[kind] * model.memory.largest_layer


def predict_phases(plan: TrainPlan, model: ModelInfo, setting: Setting) -> dict[str, int]:
    """The peak of each phase's tensors in bytes. The denoiser is in memory in all of them."""
    assert model.memory is not None
    job = _Job(plan, model, model.memory, setting)
    return {
        "encoding texts": job.denoiser + job.text_encoders + job.table.text_encoding.at(job.num_chunks),
        "encoding images": job.denoiser + job.vae + job.table.encoding.at(job.largest_image),
        "training": job.trained + max(job.step, BYTES_PER_VALUE * job.num_trained),
        "held-out loss": job.drawing + job.prediction.at(job.num_held_out * job.largest_image),
        "sampling": job.drawing + job.prediction.at(job.num_drawn * job.square),
        "decoding images": job.drawing + job.vae + job.table.passes[setting.numerics].decoding.at(job.square),
    }


@dataclass(frozen=True)
class _Job:
    """The parts of a plan's memory, in bytes; numbers of samples are those of the table's resolution."""

    plan: TrainPlan
    model: ModelInfo
    table: MemoryTable
    setting: Setting

    @property
    def denoiser(self) -> int:
        return self.model.num_parameters * (4 if self.setting.numerics == "fp32" else 2)

    @property
    def vae(self) -> int:
        return self.table.vae_parameters * 4

    @property
    def text_encoders(self) -> int:
        return self.table.text_encoder_parameters * 4

    @property
    def num_chunks(self) -> int:
        return self.plan.max_token_length // TOKENS_PER_CHUNK

    @property
    def num_trained(self) -> int:
        return count_adapter_parameters(self.plan, self.model)

    @property
    def casts(self) -> int:
        """Autocast's copies of the adapter's weights in 16 bits."""
        return 0 if self.setting.numerics == "fp32" else 2 * self.num_trained

    @property
    def square(self) -> float:
        """A square image of the plan's resolution, in images of the table's."""
        return (self.plan.resolution / self.table.resolution) ** 2

    @property
    def largest_image(self) -> float:
        buckets = [image.bucket for image in self.plan.images + self.plan.class_images]
        return max(bucket.width * bucket.height for bucket in buckets) / self.table.resolution**2

    @property
    def trained(self) -> int:
        """During training: the networks, the adapter, the optimizer's state, the average and the best weights."""
        copies = 1 + OPTIMIZER_VALUES[self.plan.optimizer]
        copies += (self.plan.ema is not None) + bool(self.plan.held_out_images)
        encoders = 0 if self.plan.text_encoder_rank is None else self.text_encoders
        return self.denoiser + encoders + round(BYTES_PER_VALUE * copies * self.num_trained)

    @property
    def drawing(self) -> int:
        """During sampling: the weights in training are kept beside those that draw."""
        return self.trained + BYTES_PER_VALUE * self.num_trained + self.casts

    @property
    def prediction(self) -> Peak:
        return self.table.passes[self.setting.numerics].prediction

    @property
    def step(self) -> int:
        """A pass forward and backward."""
        at_once = max(self.plan.batch_size, self.plan.class_images_per_batch)
        at_once = min(at_once, self.setting.samples_per_pass or at_once)
        passes = self.table.passes[self.setting.numerics]
        peak = passes.checkpointed_step if self.setting.checkpointing else passes.step
        text = 0 if self.plan.text_encoder_rank is None else self.table.text_step.at(at_once * self.num_chunks)
        return (
            self.casts + text + peak.at(at_once * self.largest_image * find_factor(self.plan, self.model, self.table))
        )

    @property
    def num_drawn(self) -> int:
        """The most samples that are drawn at a time; guidance doubles them."""
        plan = self.plan
        drawn = min(SAMPLES_AT_ONCE, max(len(plan.sample_prompts), len(plan.neutral_prompts)))
        if plan.prior_num_images and not plan.class_images:
            drawn = max(drawn, min(CLASS_IMAGES_AT_ONCE, plan.prior_num_images))
        return drawn * (2 if plan.sample_guidance_scale > 1 else 1)

    @property
    def num_held_out(self) -> int:
        return NUM_VALIDATION_TIMESTEPS if self.plan.held_out_images else 0


def find_factor(plan: TrainPlan, model: ModelInfo, table: MemoryTable) -> float:
    """Of the plan's adapter; where its targets were not traced, between none and all layers, by their share of the
    adapter's parameters."""
    factors, kind = table.adapter_factors, plan.adapter_type
    if (traced := factors.get(f"{kind}/{plan.targets}")) is not None:
        return traced
    dims = "locon" if kind == "locon" else "lora"
    share = model.adapter_dims[f"{dims}/{plan.targets}"] / model.adapter_dims[f"{dims}/all"]
    return 1 + (factors[f"{kind}/all"] - 1) * share


def count_adapter_parameters(plan: TrainPlan, model: ModelInfo) -> int:
    """DoRA's magnitudes, one per output, are omitted: they are less than a hundredth."""
    kind = "locon" if plan.adapter_type == "locon" else "lora"
    text = (plan.text_encoder_rank or 0) * model.adapter_dims.get(f"text_encoder/{plan.targets}", 0)
    return plan.rank * model.adapter_dims[f"{kind}/{plan.targets}"] + text
