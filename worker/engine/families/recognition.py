"""Reads a folder in diffusers' layout: its parts and configs, by which families recognise their bases."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from core.domain.model import PredictionType, name_families
from worker.engine.errors import BadInput

_UNET = "UNet2DConditionModel"
_OTHER_DENOISERS = {"transformer": "a transformer such as SD3's or Flux's", "prior": "a prior"}
_OTHER_CHANNELS = {
    9: "an inpainting model",
    8: "an image-editing model",
    7: "an upscaler",
    5: "a depth-to-image model",
}


@dataclass(frozen=True)
class PipelineFolder:
    """A folder in diffusers' layout: ``classes`` has the class of each part that its index names."""

    path: Path
    classes: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.path.name

    def read(self, config: str) -> dict[str, Any]:
        return read_config(self.path, config)

    def read_unet(self) -> dict[str, Any] | None:
        """The config of an ordinary U-Net; None for another denoiser. Raises BadInput for a U-Net of another kind."""
        if self.classes.get("unet") != _UNET:
            return None
        config = self.read("unet/config.json")
        refuse_other_unets(self.name, config["in_channels"], is_distilled=bool(config.get("time_cond_proj_dim")))
        return config


def open_pipeline_folder(folder: Path) -> PipelineFolder:
    """Raises BadInput with a description of a folder that is not a pipeline."""
    return PipelineFolder(folder, _list_parts(folder))


def refuse_unknown(folder: PipelineFolder) -> NoReturn:
    """Raises BadInput for a pipeline of an unknown family."""
    classes = folder.classes
    kinds = [f"{part} ({classes[part]}): {what}" for part, what in _OTHER_DENOISERS.items() if part in classes]
    kind = "; ".join(kinds) or f"a {classes.get('unet', 'pipeline without a U-Net')}"
    raise BadInput(f"{folder.name} has another denoiser: {kind}. Only {name_families()} are supported.")


def find_prediction_type(folder: Path) -> PredictionType:
    """Raises BadInput for an unknown prediction type."""
    config = read_config(folder, "scheduler/scheduler_config.json")
    said = config.get("prediction_type", "epsilon")
    if "FlowMatch" in str(config.get("_class_name")) or said == "flow_prediction":
        return "flow"
    if said not in {"epsilon", "v_prediction"}:
        raise BadInput(f"{folder.name} predicts {said}; only epsilon, v_prediction and flow_prediction are supported.")
    return "v_prediction" if said == "v_prediction" else "epsilon"


def refuse_other_unets(name: str, in_channels: int, *, is_distilled: bool) -> None:
    """Raises BadInput unless the U-Net makes images from noise and text alone, by ordinary diffusion."""
    if in_channels != 4:
        kind = _OTHER_CHANNELS.get(in_channels, "another type of model")
        raise BadInput(f"{name} is {kind} (its U-Net takes {in_channels} channels, not 4): give a text-to-image base.")
    if is_distilled:
        raise BadInput(f"{name} is distilled with the guidance scale as input (LCM): give the base it was made from.")


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Raises BadInput if it is missing or not a JSON object."""
    try:
        return dict(json.loads((folder / name).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{folder.name}/{name} cannot be read, so this is not a folder in diffusers' layout.") from error


def _list_parts(folder: Path) -> dict[str, str]:
    """Part -> its class. Raises BadInput with a description of a folder that is not a pipeline."""
    if not (folder / "model_index.json").exists():
        raise BadInput(_describe_stranger(folder))
    index = read_config(folder, "model_index.json")
    parts = {part: value[1] for part, value in index.items() if isinstance(value, list) and len(value) == 2}
    return {part: kind for part, kind in parts.items() if kind is not None}


def _describe_stranger(folder: Path) -> str:
    advice = "Give a folder in diffusers' layout, with its model_index.json."
    if (folder / "pytorch_lora_weights.safetensors").exists():
        return f"{folder.name} contains a LoRA, not a base model. {advice}"
    if (folder / "config.json").exists():
        kind = read_config(folder, "config.json").get("_class_name", "single part")
        return f"{folder.name} is only a {kind}, not a complete base model. {advice}"
    return f"{folder.name} has no model_index.json. {advice}"
