"""Identifies a folder in diffusers' layout from its configs; names count for nothing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.domain.model import Family, PredictionType
from worker.engine.errors import BadInput

_UNET = "UNet2DConditionModel"
_OTHER_DENOISERS = {"transformer": "a transformer such as SD3's or Flux's", "prior": "a prior"}
_OTHER_CHANNELS = {
    9: "an inpainting model",
    8: "an image-editing model",
    7: "an upscaler",
    5: "a depth-to-image model",
}


def find_family(folder: Path) -> Family:
    """Raises BadInput, with a description of the folder."""
    classes = _list_parts(folder)
    _refuse_other_denoisers(folder, classes)
    config = read_config(folder, "unet/config.json")
    refuse_other_unets(folder.name, config["in_channels"], is_distilled=bool(config.get("time_cond_proj_dim")))
    if "text_encoder_2" in classes:
        return _find_sdxl(folder, classes, config)
    return _find_sd(folder, classes, config)


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


def _refuse_other_denoisers(folder: Path, classes: Mapping[str, str]) -> None:
    if classes.get("unet") == _UNET:
        return
    kinds = [f"{part} ({classes[part]}): {what}" for part, what in _OTHER_DENOISERS.items() if part in classes]
    kind = "; ".join(kinds) or f"a {classes.get('unet', 'pipeline without a U-Net')}"
    raise BadInput(f"{folder.name} has another denoiser: {kind}. Only SD 1.x, SD 2.x and SDXL are supported.")


def _find_sdxl(folder: Path, classes: Mapping[str, str], unet: Mapping[str, Any]) -> Family:
    if "text_encoder" not in classes:
        raise BadInput(f"{folder.name} is an SDXL refiner: give the SDXL base.")
    if unet.get("addition_embed_type") != "text_time":
        raise BadInput(f"{folder.name} has two text encoders, but its U-Net is not SDXL's.")
    scheduler = read_config(folder, "scheduler/scheduler_config.json")
    if "EDM" in str(scheduler.get("_class_name")):
        raise BadInput(f"{folder.name} is an SDXL of the EDM type (such as Playground 2.5), which is not supported.")
    return "sdxl"


def _find_sd(folder: Path, classes: Mapping[str, str], unet: Mapping[str, Any]) -> Family:
    """1.x has OpenAI's CLIP and projects by convolutions, 2.x OpenCLIP and linear layers."""
    if classes.get("text_encoder") != "CLIPTextModel":
        raise BadInput(f"{folder.name} has {classes.get('text_encoder')} as its text encoder, not CLIP.")
    activation = read_config(folder, "text_encoder/config.json").get("hidden_act", "quick_gelu")
    match bool(unet.get("use_linear_projection")), activation:
        case False, "quick_gelu":
            return "sd1"
        case True, "gelu":
            return "sd2"
    raise BadInput(f"{folder.name} mixes SD 1.x and SD 2.x: the U-Net of the one with the text encoder of the other.")
