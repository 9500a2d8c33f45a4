"""The load proof of a training's files: diffusers' loader on each, and the same image from both."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from core.domain.artifacts import AdapterFormat
from core.domain.plan import TrainPlan
from core.domain.proof import LoadProof
from worker.engine.adapter_files.formats import LoraModule
from worker.engine.adapter_files.proof.adapters import AdapterModule
from worker.engine.adapter_files.proof.files import AdapterFile, read_file
from worker.engine.adapter_files.proof.layers import BaseLayers, Layer, list_layers
from worker.engine.adapter_files.proof.measured import hollow_out, load_in_diffusers
from worker.engine.adapter_files.proof.prove import promised_tools, prove
from worker.engine.families.protocol import Base
from worker.engine.generation.sampling import sampling_params

NUM_STEPS, SEED = 8, 0
TOLERANCE, HALF_TOLERANCE = 2, 6
"""From 0 to 255: both files have the same numbers, but one is scaled before rounding to the base's type, and the other
after. bfloat16 has 8 bits."""


def layers_of(base: Base, family: str) -> BaseLayers:
    """For the denoiser without an adapter, and for the text encoders."""
    return list_layers(family, _list_hollow(base))


def _list_hollow(base: Base) -> dict[str, Any]:
    """The denoiser and the text encoders without their weights, by part."""
    encoders = base.open_text_encoders()
    networks = {network.diffusers_prefix: hollow_out(network.module) for network in (base.denoiser, *encoders.networks)}
    del encoders
    base.free()
    return networks


def prove_files(
    base: Base, plan: TrainPlan, files: Mapping[AdapterFormat, Path], trained: Sequence[LoraModule]
) -> dict[AdapterFormat, LoadProof]:
    """``trained``: the contents of the files. The base must not have an adapter on it."""
    networks = _list_hollow(base)
    layers = list_layers(plan.family, networks)
    wanted = [_name(module) for module in trained]
    read = {name: read_file(path) for name, path in files.items()}
    loaded = {name: load_in_diffusers(path, plan.family, networks, wanted) for name, path in files.items()}
    difference = _compare(base, plan, files, read)
    tolerance = TOLERANCE if base.denoiser.module.dtype == torch.float32 else HALF_TOLERANCE
    return {
        name: prove(file, layers, loaded[name]).model_copy(
            update={
                "images_match": None if difference is None else difference <= tolerance,
                "max_pixel_difference": difference,
            }
        )
        for name, file in read.items()
    }


def _name(module: LoraModule) -> AdapterModule:
    layer = Layer(module.network.diffusers_prefix, module.network.diffusers_path(module.path))
    return AdapterModule(layer, module.down, module.up, module.alpha, module.magnitude)


@torch.no_grad()
def _compare(
    base: Base, plan: TrainPlan, files: Mapping[AdapterFormat, Path], read: Mapping[AdapterFormat, AdapterFile]
) -> int | None:
    """The largest difference of a pixel; None if diffusers does not read one of them."""
    if not all("diffusers" in promised_tools(file) for file in read.values()):
        return None
    prompt = next(iter(plan.sample_prompts), plan.images[0].caption)
    params = replace(sampling_params(plan), num_steps=NUM_STEPS)
    drawn = [_pixels(base.draw_with(path, prompt, SEED, params)) for path in files.values()]
    return int(max(np.abs(drawn[0] - other).max() for other in drawn))


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.int16)
