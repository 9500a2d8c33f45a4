"""Converts a single-file checkpoint into a folder in diffusers' layout, once; docs/adr/0004 says why."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTokenizer

from core.domain.counts import counted
from core.domain.model import Family, PredictionType
from worker.engine.bases.single_file import CONFIGS, UNET, VAE, Checkpoint, Header, find_dtype
from worker.engine.bases.vocabulary import write_tokenizer
from worker.engine.errors import BadInput
from worker.engine.families.noise import make_flow_scheduler
from worker.engine.families.recognition import read_config

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_TEXT = {"sd1": "cond_stage_model.", "sd2": "cond_stage_model.", "sdxl": "conditioner."}
_PIPELINES = {"sd1": StableDiffusionPipeline, "sd2": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
_SD2_V_PIXELS = 768


def choose_prediction_type(header: Header, found: Checkpoint, wanted: PredictionType | None) -> PredictionType:
    """Raises BadInput if neither the file nor the caller states it."""
    chosen = wanted or found.prediction_type
    if chosen is None:
        raise BadInput(
            f"{header.name} is an SD 2.x, which exists with two prediction types, and the file does not state its own. "
            "Register it again with prediction_type: v_prediction (768-pixel bases) or epsilon (512-pixel bases)."
        )
    return chosen


def convert(
    file: Path,
    folder: Path,
    *,
    header: Header,
    checkpoint: Checkpoint,
    prediction_type: PredictionType,
    resolution: int | None,
    vocabulary: CLIPTokenizer,
    configs: Path = CONFIGS,
) -> None:
    """Every part keeps the file's precision. Raises BadInput for a file that lacks tensors or has invalid ones."""
    family = checkpoint.family
    layout = configs / family
    parts: dict[str, Any] = {
        "scheduler": _make_scheduler(layout, prediction_type, checkpoint.zero_terminal_snr),
        **_make_tokenizers(vocabulary, layout, folder),
    }
    try:
        parts["unet"] = _load(UNet2DConditionModel, file, layout, "unet", find_dtype(header, UNET))
        parts["vae"] = _load(AutoencoderKL, file, layout, "vae", find_dtype(header, VAE))
        parts |= _load_text_encoders(file, layout, family, parts, find_dtype(header, _TEXT[family]))
        pipeline = _assemble(family, parts)
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        raise BadInput(f"{file.name} looks like {family}, but cannot be converted ({error}).") from error
    _refuse_gaps(file.name, pipeline.components)
    pipeline.unet.register_to_config(sample_size=_sample_size(pipeline, family, prediction_type, resolution))
    pipeline.save_pretrained(folder)


def _make_scheduler(layout: Path, prediction_type: PredictionType, zero_terminal_snr: bool) -> Any:
    if prediction_type == "flow":
        return make_flow_scheduler(1.0)
    config = read_config(layout, "scheduler/scheduler_config.json")
    return DDIMScheduler.from_config(
        config, prediction_type=prediction_type, rescale_betas_zero_snr=zero_terminal_snr, timestep_spacing="trailing"
    )


def _make_tokenizers(vocabulary: CLIPTokenizer, layout: Path, folder: Path) -> dict[str, CLIPTokenizer]:
    tokenizers = {}
    for encoder in sorted(layout.glob("text_encoder*")):
        name = encoder.name.replace("text_encoder", "tokenizer")
        write_tokenizer(vocabulary, read_config(layout, f"{encoder.name}/config.json"), folder / name)
        tokenizers[name] = CLIPTokenizer.from_pretrained(folder / name, local_files_only=True)
    return tokenizers


def _load(kind: Any, file: Path, layout: Path, part: str, dtype: str) -> Any:
    try:
        return kind.from_single_file(
            str(file), config=str(layout), subfolder=part, dtype=_DTYPES[dtype], local_files_only=True
        )
    except NotImplementedError as error:  # torch's error for moving a tensor that was never filled
        raise BadInput(f"{file.name} lacks tensors of its {part}: it is incomplete, or of another type.") from error


def _load_text_encoders(
    file: Path, layout: Path, family: Family, parts: Mapping[str, Any], dtype: str
) -> dict[str, Any]:
    """Only the pipeline can do this: it gets all other parts, so that it reads nothing else."""
    pipeline = _PIPELINES[family].from_single_file(
        str(file), config=str(layout), dtype=_DTYPES[dtype], local_files_only=True, **parts
    )
    return {name: part for name, part in pipeline.components.items() if name.startswith("text_encoder")}


def _assemble(family: Family, parts: Mapping[str, Any]) -> Any:
    if family == "sdxl":
        return StableDiffusionXLPipeline(**parts, add_watermarker=False)
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def _refuse_gaps(name: str, components: Mapping[str, Any]) -> None:
    """For a text encoder, diffusers silently leaves missing tensors on the meta device."""
    for part, module in components.items():
        if isinstance(module, torch.nn.Module):
            missing = [layer for layer, param in module.named_parameters() if param.is_meta]
            if missing:
                raise BadInput(f"{name} lacks {counted(len(missing), 'tensor')} of its {part}, such as {missing[0]}.")


def _sample_size(pipeline: Any, family: Family, prediction_type: PredictionType, resolution: int | None) -> int:
    """In latents. A file does not state it; the published SD 2.x that predict v are the 768-pixel ones."""
    if resolution is None and family == "sd2" and prediction_type == "v_prediction":
        resolution = _SD2_V_PIXELS
    if resolution is None:
        return int(pipeline.unet.config.sample_size)
    return int(resolution // pipeline.vae_scale_factor)
