"""Starts the second stage from a smaller base: one layer a block becomes two (Net2Net, arXiv 1511.05641), and the new
layers change nothing at first.

The two bases have different autoencoders. Their latents are related, since they encode the same pixels: the new ones
are rotated onto the old ones (orthogonal Procrustes), which leaves noise unchanged, and the rotation is folded into the
first and the last convolution.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer


@torch.no_grad()
def grow_unet(unet: UNet2DConditionModel, folder: Path, rotation: torch.Tensor) -> None:
    """``rotation``, (4, 4): the old latents are about ``rotation @ new``, both scaled."""
    old = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    for name in ("time_embedding", "mid_block", "conv_norm_out"):
        getattr(unet, name).load_state_dict(getattr(old, name).state_dict())
    for new_block, old_block in zip(unet.down_blocks, old.down_blocks, strict=True):
        _copy(new_block, old_block, {0: 0})
        _copy_samplers(new_block, old_block, "downsamplers")
    for new_block, old_block in zip(unet.up_blocks, old.up_blocks, strict=True):
        _copy(new_block, old_block, {0: 0, 2: 1})
        _copy_samplers(new_block, old_block, "upsamplers")
    unet.conv_in.weight.copy_(torch.einsum("oihw,ij->ojhw", old.conv_in.weight, rotation))
    unet.conv_in.bias.copy_(old.conv_in.bias)
    unet.conv_out.weight.copy_(torch.einsum("oihw,oj->jihw", old.conv_out.weight, rotation))
    unet.conv_out.bias.copy_(rotation.T @ old.conv_out.bias)


def _copy(new: Any, old: Any, places: dict[int, int]) -> None:
    """``places``: new index -> old index. The others pass on their input."""
    for index, resnet in enumerate(new.resnets):
        if index in places:
            resnet.load_state_dict(old.resnets[places[index]].state_dict())
        else:
            _pass_on(resnet)
    for index, attention in enumerate(getattr(new, "attentions", ())):
        if index in places:
            attention.load_state_dict(old.attentions[places[index]].state_dict())
        else:
            _zero(attention.proj_out)


def _pass_on(resnet: Any) -> None:
    _zero(resnet.conv2)
    if resnet.conv_shortcut is not None:
        _zero(resnet.conv_shortcut)
        width = resnet.conv_shortcut.out_channels  # the hidden state comes first, then the skip
        resnet.conv_shortcut.weight[:, :width, 0, 0] = torch.eye(width)


def _zero(layer: nn.Module) -> None:
    for param in layer.parameters():
        param.zero_()


def _copy_samplers(new: Any, old: Any, name: str) -> None:
    if getattr(old, name) is not None:
        getattr(new, name).load_state_dict(getattr(old, name).state_dict())


@torch.no_grad()
def grow_text_encoder(encoder: CLIPTextModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """A token that the old vocabulary lacks starts as the mean of the old tokens that its text consists of."""
    old = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32)
    words = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    known: dict[str, int] = json.loads((folder / "tokenizer" / "vocab.json").read_text())
    state, before = encoder.state_dict(), old.state_dict()
    tokens = next(name for name in state if name.endswith("token_embedding.weight"))
    state |= {name: value for name, value in before.items() if name != tokens}
    rows, table = state[tokens].clone(), before[tokens]
    for token, index in tokenizer.get_vocab().items():
        if token in known:
            rows[index] = table[known[token]]
        elif ids := words(token.removesuffix("</w>"), add_special_tokens=False).input_ids:
            rows[index] = table[ids].mean(0)
    encoder.load_state_dict(state | {tokens: rows})


@torch.no_grad()
def find_rotation(old: AutoencoderKL, new: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """(4, 4), orthogonal: the new latents turned onto the old ones, each taken about its mean. ``pixels`` -1..1."""
    rows = []
    for vae in (old, new):
        latents = torch.cat([vae.encode(part).latent_dist.mean for part in pixels.split(64)])
        flat = latents.permute(1, 0, 2, 3).reshape(latents.shape[1], -1)
        rows.append((flat - flat.mean(1, keepdim=True)) * vae.config.scaling_factor)
    left, _, right = torch.linalg.svd(rows[0] @ rows[1].T)
    return left @ right
