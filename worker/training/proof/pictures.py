"""The last part of a load proof: the same picture from both files, each read by diffusers' own loader."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from core.domain.artifacts import AdapterFormat
from core.domain.plan import TrainPlan
from core.domain.proof import LoadProof
from worker.training.families.protocol import Base
from worker.training.proof.files import AdapterFile, read_file
from worker.training.proof.layers import BaseLayers, list_layers
from worker.training.proof.prove import promised_tools, prove
from worker.training.sampling import plan_sampling

NUM_STEPS, SEED = 8, 0
TOLERANCE = 2
"""In steps of 0..255: both files hold the same numbers, but scale them in a different order."""


def layers_of(base: Base, family: str) -> BaseLayers:
    """Of the denoiser without an adapter, and of the text encoders."""
    encoders = base.open_text_encoders()
    networks = {network.diffusers_prefix: network.module for network in (base.denoiser, *encoders.networks)}
    layers = list_layers(family, networks)
    del encoders, networks
    base.free()
    return layers


def prove_files(base: Base, plan: TrainPlan, files: Mapping[AdapterFormat, Path]) -> dict[AdapterFormat, LoadProof]:
    """The base must have no adapter on it."""
    layers = layers_of(base, plan.family)
    read = {name: read_file(path) for name, path in files.items()}
    difference = _compare(base, plan, files, read)
    return {
        name: prove(file, layers).model_copy(
            update={
                "images_match": None if difference is None else difference <= TOLERANCE,
                "max_pixel_difference": difference,
            }
        )
        for name, file in read.items()
    }


@torch.no_grad()
def _compare(
    base: Base, plan: TrainPlan, files: Mapping[AdapterFormat, Path], read: Mapping[AdapterFormat, AdapterFile]
) -> int | None:
    """The largest difference of a pixel; None where diffusers does not read one of them."""
    if not all("diffusers" in promised_tools(file) for file in read.values()):
        return None
    prompt = next(iter(plan.sample_prompts), plan.images[0].caption)
    how = replace(plan_sampling(plan), num_steps=NUM_STEPS)
    drawn = [_pixels(base.draw_with(path, prompt, SEED, how)) for path in files.values()]
    return int(max(np.abs(drawn[0] - other).max() for other in drawn))


def _pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, np.int16)
