"""Stable Diffusion 1.x: one CLIP text encoder (ViT-L), whose last layer's states are the U-Net's only conditioning."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from transformers import CLIPTextModel

from worker.engine.errors import BadInput
from worker.engine.families.clip import Clip, ClipNetwork, ClipTextEncoders
from worker.engine.families.latent_diffusion import LatentDiffusion, load_denoiser
from worker.engine.families.protocol import Conditioning, TextLimits
from worker.engine.families.recognition import PipelineFolder
from worker.engine.families.spec import FamilySpec, MetadataNames, Part, SingleFile, ToolRules
from worker.engine.families.unet import UNET_SPELLINGS, UnetLayout, UnetNetwork, published_levels

UNET = Part("unet", UNet2DConditionModel, UnetNetwork, UNET_SPELLINGS)
TEXT_SPELLINGS = ("text_encoder.", "lora_te1_", "lora_te1.", "lora_te_", "lora_te.")
TEXT = Part(
    "text_encoder",
    CLIPTextModel,
    partial(ClipNetwork, kohya_prefix="lora_te", diffusers_prefix="text_encoder"),
    (*TEXT_SPELLINGS, "text_encoders.clip_l.transformer.", "lora_clip_l.", "clip_l."),
)
PIPELINE_OPTIONS = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


class SD1TextEncoders(ClipTextEncoders):
    def __init__(self, folder: Path, device: torch.device, limits: TextLimits) -> None:
        self._clip = Clip(folder, TEXT, device)
        super().__init__([self._clip], limits)

    def encode(self, texts: Sequence[str]) -> list[Conditioning]:
        read = self._clip.read(*self._fit(texts))
        return [{"states": states_TD} for states_TD in read.join(read.answer.last_hidden_state.float())]


class SD1Base(LatentDiffusion):
    def open_text_encoders(self, limits: TextLimits = TextLimits()) -> SD1TextEncoders:
        return SD1TextEncoders(self.folder, self.device, limits)


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> SD1Base:
    """Raises BadInput if the files cannot be read."""
    unet, noise_schedule = load_denoiser(folder, device, dtype)
    return SD1Base(folder, UNET.network(unet), noise_schedule, device)


_GENERATIONS = ((False, "quick_gelu"), (True, "gelu"))


def find_generation(folder: PipelineFolder) -> int | None:
    """1 or 2; None for a pipeline with another denoiser or several text encoders. 1.x has OpenAI's CLIP and projects by
    convolutions, 2.x OpenCLIP and linear layers. Raises BadInput for other text encoders, and for a mixture."""
    unet = folder.read_unet()
    if unet is None or "text_encoder_2" in folder.classes:
        return None
    if folder.classes.get("text_encoder") != "CLIPTextModel":
        raise BadInput(f"{folder.name} has {folder.classes.get('text_encoder')} as its text encoder, not CLIP.")
    activation = folder.read("text_encoder/config.json").get("hidden_act", "quick_gelu")
    found = (bool(unet.get("use_linear_projection")), activation)
    if found not in _GENERATIONS:
        raise BadInput(
            f"{folder.name} mixes SD 1.x and SD 2.x: the U-Net of the one with the text encoder of the other."
        )
    return 1 + _GENERATIONS.index(found)


SPEC = FamilySpec(
    name="sd1",
    recognise=lambda folder: find_generation(folder) == 1,
    load=load,
    base=SD1Base,
    denoiser=UNET,
    text_encoders=(TEXT,),
    lora_loader=StableDiffusionLoraLoaderMixin,
    metadata=MetadataNames("sd_v1", "stable-diffusion-v1/lora"),
    v_metadata=MetadataNames("sd_v1_v", "stable-diffusion-v1/lora"),
    single_file=SingleFile(
        marks=("cond_stage_model.transformer.text_model.",),
        text_prefix="cond_stage_model.",
        pipeline=StableDiffusionPipeline,
        options=PIPELINE_OPTIONS,
        published={"epsilon": 512},
    ),
    tools=ToolRules(
        text_names={
            "sd-scripts": {"lora_te": "text_encoder"},
            "a1111": {"lora_te": "text_encoder", "lora_te1": "text_encoder"},
            "comfyui": {"lora_te": "text_encoder", "lora_te1": "text_encoder"},
            "diffusers": {"lora_te": "text_encoder", "lora_te1": "text_encoder"},
        },
        published=UnetLayout(published_levels((1, 1), (1, 1), (1, 1), (0, 0)), 768, None, linear=False),
    ),
)
