"""Makes the table of a base's memory: each phase once, on fake tensors.

A step's memory is traced for a LoRA on the attention layers, for each kind of numerics, with and without gradient
checkpointing; other adapters are traced under one kind of numerics, and kept as factors. What belongs to the adapter's
weights, which grow with the rank, is left out: core/domain/memory.py adds it.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from core.domain.memory_table import MemoryTable, Numerics, Passes, Peak
from core.domain.model import Family, ModelInfo
from worker.engine.families.registry import FAMILIES
from worker.engine.families.spec import Part
from worker.engine.memory.phases import FakeBase, count_weights

log = logging.getLogger("atelier.memory")

RANK = 16
PLAIN = "lora/attention"
OTHERS = ("lora/all", "locon/all", "dora/all")
COMPARED: Numerics = "cuda16"
"""The kind of numerics under which adapters are compared."""


def add_memory(info: ModelInfo, folder: Path) -> ModelInfo:
    """The card with the table; without one for a base that cannot be traced, which can still be trained."""
    try:
        return info.model_copy(update={"memory": trace_memory(info.family, folder, info.resolution)})
    except Exception:  # of any library below: an unusual layer must not cost a base its registration
        log.exception("the memory of %s could not be traced", info.id)
        return info


def trace_memory(family: Family, folder: Path, resolution: int) -> MemoryTable:
    """``resolution`` in pixels. Reads only configs; takes some seconds for a base of SD 1.5's size."""
    fakes = {numerics: FakeBase(FAMILIES[family], folder, numerics) for numerics in get_args(Numerics)}
    passes = {numerics: _trace_passes(fake, resolution) for numerics, fake in fakes.items()}
    fake, parts = fakes[COMPARED], FAMILIES[family].text_encoders
    encoders = [fake.open_text_encoder(part) for part in parts]
    return MemoryTable(
        resolution=resolution,
        text_encoder_parameters=sum(map(count_weights, encoders)),
        vae_parameters=count_weights(fake.open_vae()),
        largest_layer=fake.find_largest_layer(),
        passes=passes,
        adapter_factors=_compare_adapters(fake, resolution, passes[COMPARED].step.per_sample),
        encoding=Peak(per_sample=fake.trace_encoding(resolution)),
        text_encoding=Peak(per_sample=max(fake.trace_text_encoding(encoder) for encoder in encoders)),
        text_step=_trace_text_step(fake, parts),
    )


def _trace_passes(fake: FakeBase, resolution: int) -> Passes:
    base = fake.open_denoiser(PLAIN, RANK)
    casts = fake.bytes_per_cast * count_weights(base.denoiser.module, trained=True)
    steps = [fake.trace_step(base, resolution, checkpointing=each) - casts for each in (False, True)]
    return Passes(
        step=Peak(per_sample=steps[0]),
        checkpointed_step=Peak(per_sample=steps[1]),
        prediction=Peak(per_sample=fake.trace_prediction(base, resolution) - casts),
        decoding=Peak(per_sample=fake.trace_decoding(resolution)),
    )


def _compare_adapters(fake: FakeBase, resolution: int, plain: int) -> dict[str, float]:
    """``plain``: a step's memory with the plain adapter."""
    factors = {PLAIN: 1.0}
    for adapter in OTHERS:
        base = fake.open_denoiser(adapter, RANK)
        casts = fake.bytes_per_cast * count_weights(base.denoiser.module, trained=True)
        factors[adapter] = round((fake.trace_step(base, resolution, checkpointing=False) - casts) / plain, 4)
    return factors


def _trace_text_step(fake: FakeBase, parts: Sequence[Part]) -> Peak:
    """Twice, for autocast copies the frozen weights once for all texts."""
    encoders = [fake.open_text_encoder(part, PLAIN, RANK) for part in parts]
    one, two = (sum(fake.trace_text_step(encoder, count) for encoder in encoders) for count in (1, 2))
    return Peak(fixed=2 * one - two, per_sample=two - one)
