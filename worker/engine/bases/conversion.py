"""Converts a single-file checkpoint into a folder in diffusers' layout, once; docs/adr/0004 says why."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from transformers import CLIPTokenizer

from core.domain.counts import counted, listed
from core.domain.model import FAMILY_FACTS, PredictionType
from worker.engine.bases.single_file import CONFIGS, DENOISER, VAE, Checkpoint, Header, find_dtype
from worker.engine.bases.vocabulary import write_tokenizer
from worker.engine.errors import BadInput
from worker.engine.families.noise import make_flow_scheduler
from worker.engine.families.recognition import read_config
from worker.engine.families.registry import FAMILIES
from worker.engine.families.spec import FamilySpec

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def choose_prediction_type(header: Header, found: Checkpoint, wanted: PredictionType | None) -> PredictionType:
    """Raises BadInput if neither the file nor the caller states it."""
    chosen = wanted or found.prediction_type
    if chosen is None:
        published = FAMILIES[found.family].single_file.published
        choices = [f"{kind} ({pixels}-pixel bases)" for kind, pixels in published.items()]
        raise BadInput(
            f"{header.name} is an {FAMILY_FACTS[found.family].title}, which exists with several prediction types, and "
            f"the file does not state its own. Register it again with prediction_type: {listed(choices, 'or')}."
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
    spec = FAMILIES[checkpoint.family]
    layout, denoiser = configs / spec.name, spec.denoiser
    parts: dict[str, Any] = {
        "scheduler": _make_scheduler(layout, prediction_type, checkpoint.zero_terminal_snr),
        **_make_tokenizers(vocabulary, layout, folder),
    }
    try:
        parts[denoiser.name] = _load(denoiser.kind, file, layout, denoiser.name, find_dtype(header, DENOISER))
        parts["vae"] = _load(AutoencoderKL, file, layout, "vae", find_dtype(header, VAE))
        parts |= _load_text_encoders(file, layout, spec, parts, find_dtype(header, spec.single_file.text_prefix))
        pipeline = spec.single_file.pipeline(**parts, **spec.single_file.options)
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        raise BadInput(f"{file.name} looks like {spec.name}, but cannot be converted ({error}).") from error
    _refuse_gaps(file.name, pipeline.components)
    sample_size = _sample_size(pipeline, spec, prediction_type, resolution)
    pipeline.components[denoiser.name].register_to_config(sample_size=sample_size)
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
    file: Path, layout: Path, spec: FamilySpec, parts: Mapping[str, Any], dtype: str
) -> dict[str, Any]:
    """Only the pipeline can do this: it gets all other parts, so that it reads nothing else."""
    pipeline = spec.single_file.pipeline.from_single_file(
        str(file), config=str(layout), dtype=_DTYPES[dtype], local_files_only=True, **parts
    )
    return {name: part for name, part in pipeline.components.items() if name.startswith("text_encoder")}


def _refuse_gaps(name: str, components: Mapping[str, Any]) -> None:
    """For a text encoder, diffusers silently leaves missing tensors on the meta device."""
    for part, module in components.items():
        if isinstance(module, torch.nn.Module):
            missing = [layer for layer, param in module.named_parameters() if param.is_meta]
            if missing:
                raise BadInput(f"{name} lacks {counted(len(missing), 'tensor')} of its {part}, such as {missing[0]}.")


def _sample_size(pipeline: Any, spec: FamilySpec, prediction_type: PredictionType, resolution: int | None) -> int:
    """In latents. A file does not state it: without ``resolution`` it is that of the family's config, or of the
    published bases with another prediction type."""
    published = spec.single_file.published
    if resolution is None and prediction_type != next(iter(published)):
        resolution = published.get(prediction_type)
    if resolution is None:
        return int(pipeline.components[spec.denoiser.name].config.sample_size)
    return int(resolution // pipeline.vae_scale_factor)
