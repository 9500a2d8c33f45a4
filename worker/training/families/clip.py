"""CLIP text encoders as networks that adapters may change: shared by SD 1.x, 2.x and SDXL."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTokenizer

_ATTENTION = r".*\bself_attn\.(q_proj|k_proj|v_proj|out_proj)"
_FEED_FORWARD = r".*\bmlp\.fc[12]"


@dataclass(frozen=True)
class ClipNetwork:
    """A CLIPTextModel, with a projection or without."""

    module: Any
    kohya_prefix: str
    diffusers_prefix: str

    def list_targets(self, adapter_type: str, targets: str) -> list[str]:
        """72 layers on SD 1.x with feed-forward, 48 without. There are no convolutions."""
        pattern = re.compile(_ATTENTION if targets == "attention" else f"{_ATTENTION}|{_FEED_FORWARD}")
        linear = torch.nn.Linear
        return [
            name for name, layer in self.module.named_modules() if isinstance(layer, linear) and pattern.fullmatch(name)
        ]

    def kohya_path(self, layer: str) -> str:
        return self.diffusers_path(layer)

    def diffusers_path(self, layer: str) -> str:
        """Always with ``text_model.``: transformers 5 dropped that level from CLIPTextModel, no file format did."""
        return layer if layer.startswith("text_model.") else f"text_model.{layer}"


class Clip:
    """A tokenizer and its text encoder, frozen, in fp32, from a base's folder."""

    def __init__(self, folder: Path, tokenizer: str, encoder: str, kind: Any, device: torch.device) -> None:
        self._tokenizer = CLIPTokenizer.from_pretrained(folder / tokenizer, local_files_only=True)
        model = kind.from_pretrained(
            folder, subfolder=encoder, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
        self.encoder = model.to(device).requires_grad_(False).eval()

    def read(self, texts: Sequence[str], *, hidden_states: bool = False) -> Any:
        """The encoder's answer to the texts, each cut or padded to its full length."""
        length = self.encoder.config.max_position_embeddings
        rows = self._tokenizer(
            list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return self.encoder(rows.input_ids.to(self.encoder.device), output_hidden_states=hidden_states)
