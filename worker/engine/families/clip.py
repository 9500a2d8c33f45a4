"""CLIP text encoders as networks that adapters may change, and their reading of texts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTokenizer

from worker.engine.families.long_texts import Reading, count_chunks, fit_phrase, split_tokens
from worker.engine.families.protocol import Network, TextLimits
from worker.engine.families.spec import Part

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

    def __init__(self, folder: Path, part: Part, device: torch.device) -> None:
        self._tokenizer = CLIPTokenizer.from_pretrained(folder / part.tokenizer, local_files_only=True)
        model = part.kind.from_pretrained(
            folder, subfolder=part.name, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
        self.encoder = model.to(device).requires_grad_(False).eval()
        self.network = part.network(self.encoder)

        self._length: int = model.config.max_position_embeddings
        self.room = self._length - 2
        """Tokens of one chunk, without its start and end tokens."""

    def tokenize(self, text: str) -> list[int]:
        """Tokens of the whole text, without start and end."""
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return tokens

    def read(self, texts: Sequence[str], num_chunks: Sequence[int], *, hidden_states: bool = False) -> Reading:
        """The encoder's output for the texts in the given number of chunks each, cut or padded to fill them."""
        ends = (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id, self._tokenizer.pad_token_id)
        rows = [
            chunk
            for text, count in zip(texts, num_chunks, strict=True)
            for chunk in split_tokens(self.tokenize(text), count, self._length, ends)
        ]
        ids = torch.tensor(rows, device=self.encoder.device)
        return Reading(self.encoder(ids, output_hidden_states=hidden_states), num_chunks)


class ClipTextEncoders:
    """The common part of the families: fits texts into chunks, the same for all of a family's encoders."""

    conditioning_dtype = torch.float32

    def __init__(self, clips: Sequence[Clip], limits: TextLimits) -> None:
        self._clips, self._limits = clips, limits
        self.networks: Sequence[Network] = [clip.network for clip in clips]
        self._room: int = clips[0].room

    def is_cut(self, text: str) -> bool:
        return self._count(text) > self._limits.num_chunks * self._room

    def _fit(self, texts: Sequence[str]) -> tuple[list[str], list[int]]:
        """The texts, shortened if the phrase to keep would be cut, and the number of chunks of each."""
        room = self._limits.num_chunks * self._room
        fitted = [fit_phrase(text, self._limits.keep, room, self._count) for text in texts]
        return fitted, [count_chunks(self._count(text), self._room, self._limits) for text in fitted]

    def _count(self, text: str) -> int:
        return max(len(clip.tokenize(text)) for clip in self._clips)
