"""SDXL base (arXiv 2307.01952): two text encoders; the U-Net is also conditioned on the image's size and crop."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders import StableDiffusionXLLoraLoaderMixin
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from worker.engine.errors import BadInput
from worker.engine.families.clip import Clip, ClipNetwork, ClipTextEncoders
from worker.engine.families.latent_diffusion import LatentDiffusion, load_denoiser
from worker.engine.families.protocol import Conditioning, SizeConditioning, TextLimits
from worker.engine.families.recognition import PipelineFolder
from worker.engine.families.sgm_names import to_sgm
from worker.engine.families.spec import FamilySpec, MetadataNames, Part, Relative, SingleFile, ToolRules
from worker.engine.families.unet import UNET_SPELLINGS, UnetLayout, UnetNetwork, published_levels


def make_network(unet: UNet2DConditionModel) -> UnetNetwork:
    return UnetNetwork(unet, rename_for_kohya=partial(to_sgm, unet.config))


UNET = Part("unet", UNet2DConditionModel, make_network, UNET_SPELLINGS)
TEXT_1 = Part(
    "text_encoder",
    CLIPTextModel,
    partial(ClipNetwork, kohya_prefix="lora_te1", diffusers_prefix="text_encoder"),
    ("text_encoders.clip_l.transformer.", "text_encoder.", "lora_clip_l.", "lora_te1_", "lora_te1.", "clip_l."),
)
TEXT_2 = Part(
    "text_encoder_2",
    CLIPTextModelWithProjection,
    partial(ClipNetwork, kohya_prefix="lora_te2", diffusers_prefix="text_encoder_2"),
    ("text_encoders.clip_g.transformer.", "text_encoder_2.", "lora_clip_g.", "lora_te2_", "lora_te2.", "clip_g."),
)


class SDXLTextEncoders(ClipTextEncoders):
    """The states of both encoders' last but one layers side by side, and the second's pooled, projected output."""

    def __init__(self, folder: Path, device: torch.device, limits: TextLimits) -> None:
        self._first, self._second = Clip(folder, TEXT_1, device), Clip(folder, TEXT_2, device)
        self._zeroes_empty: bool = StableDiffusionXLPipeline.load_config(folder).get(
            "force_zeros_for_empty_prompt", True
        )
        super().__init__([self._first, self._second], limits)

    def encode(self, texts: Sequence[str]) -> list[Conditioning]:
        fitted, num_chunks = self._fit(texts)
        first = self._first.read(fitted, num_chunks, hidden_states=True)
        second = self._second.read(fitted, num_chunks, hidden_states=True)
        states_NTD = torch.cat([first.answer.hidden_states[-2], second.answer.hidden_states[-2]], dim=-1).float()
        pooled = second.pick_first(second.answer.text_embeds.float())
        rows = zip(texts, second.join(states_NTD), pooled, strict=True)
        return [self._describe(text, states_TD, pooled_D) for text, states_TD, pooled_D in rows]

    def _describe(self, text: str, states_TD: torch.Tensor, pooled_D: torch.Tensor) -> Conditioning:
        """SDXL learned to draw without a prompt from zeros, not from the encoders' output for an empty text."""
        if text == "" and self._zeroes_empty:
            states_TD, pooled_D = torch.zeros_like(states_TD), torch.zeros_like(pooled_D)
        return {"states": states_TD, "pooled": pooled_D}


class SDXLBase(LatentDiffusion):
    def open_text_encoders(self, limits: TextLimits = TextLimits()) -> SDXLTextEncoders:
        return SDXLTextEncoders(self.folder, self.device, limits)

    def encode_size_conditioning(self, framing: SizeConditioning) -> Conditioning:
        """Original size, crop and target size, each height first, in pixels (section 2.2 of the paper)."""
        return {"time_ids": torch.tensor([*framing.original, *framing.crop, *framing.target], dtype=torch.float32)}

    def _conditioning_inputs(self, rows: Sequence[Conditioning]) -> dict[str, Any]:
        added = {"text_embeds": self._batch(rows, "pooled"), "time_ids": self._batch(rows, "time_ids")}
        return {**super()._conditioning_inputs(rows), "added_cond_kwargs": added}


def load(folder: Path, device: torch.device, dtype: torch.dtype) -> SDXLBase:
    """Raises BadInput if the files cannot be read."""
    unet, noise_schedule = load_denoiser(folder, device, dtype)
    return SDXLBase(folder, UNET.network(unet), noise_schedule, device)


def recognise(folder: PipelineFolder) -> bool:
    """By its second text encoder. Raises BadInput for the refiner, for other U-Nets and for the EDM type."""
    unet = folder.read_unet()
    if unet is None or "text_encoder_2" not in folder.classes:
        return False
    if "text_encoder" not in folder.classes:
        raise BadInput(f"{folder.name} is an SDXL refiner: give the SDXL base.")
    if unet.get("addition_embed_type") != "text_time":
        raise BadInput(f"{folder.name} has two text encoders, but its U-Net is not SDXL's.")
    if "EDM" in str(folder.read("scheduler/scheduler_config.json").get("_class_name")):
        raise BadInput(f"{folder.name} is an SDXL of the EDM type (such as Playground 2.5), which is not supported.")
    return True


_FLAT_TEXTS = {"lora_te1": "text_encoder", "lora_te2": "text_encoder_2"}

SPEC = FamilySpec(
    name="sdxl",
    recognise=recognise,
    load=load,
    base=SDXLBase,
    denoiser=UNET,
    text_encoders=(TEXT_1, TEXT_2),
    lora_loader=StableDiffusionXLLoraLoaderMixin,
    metadata=MetadataNames("sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora"),
    single_file=SingleFile(
        marks=("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
        text_prefix="conditioner.",
        pipeline=StableDiffusionXLPipeline,
        options={"add_watermarker": False},
        published={"epsilon": 1024},
        relatives=(
            Relative("an SDXL refiner", "Give the SDXL base.", "conditioner.embedders.0.model."),
            Relative(
                "an SDXL of the EDM type, such as Playground 2.5",
                "Its noise schedule is not supported; give an ordinary SDXL.",
                "edm_mean",
            ),
        ),
    ),
    tools=ToolRules(
        text_names={
            "sd-scripts": _FLAT_TEXTS,
            "a1111": _FLAT_TEXTS,
            "comfyui": {"lora_te": "text_encoder", **_FLAT_TEXTS},
            "diffusers": {"lora_te": "text_encoder", **_FLAT_TEXTS},
        },
        reads_original=frozenset({"sd-scripts", "diffusers"}),
        published=UnetLayout(published_levels((0, 0), (2, 2), (10, 10)), 2048, 2816, linear=True),
        # its own, SSD-1B's, Segmind Vega's, KOALA 700M's and 1B's (comfy/supported_models.py)
        comfyui_depths=([0, 0, 2, 2, 10, 10], [0, 0, 2, 2, 4, 4], [0, 0, 1, 1, 2, 2], [0, 2, 5], [0, 2, 6]),
        fused_qkv="text_encoder_2",
        a1111_version="sdxl_",
    ),
)
