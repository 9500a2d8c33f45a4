"""Whether a folder in diffusers' layout holds what training reads from it.

transformers fills missing weights with random numbers, and a tokenizer maps words that it does not know to one token:
neither is an error until an adapter is trained on nothing.
"""

import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors import SafetensorError, safe_open
from transformers import CLIPTokenizer

from worker.engine.errors import BadInput
from worker.engine.families.noise import load_noise_schedule
from worker.engine.families.protocol import Network
from worker.engine.families.recognition import read_config
from worker.engine.families.spec import FamilySpec, Part

LETTERS = string.ascii_lowercase + string.digits
MAX_NAMED = 3


def check_parts(folder: Path, spec: FamilySpec, denoiser: Network) -> None:
    """``denoiser``: on the meta device. Raises BadInput with the part that is missing, incomplete or unreadable."""
    _check_denoiser(folder, spec.denoiser.name, denoiser)
    _load_whole(folder, "vae", AutoencoderKL)
    for part in spec.text_encoders:
        encoder = _load_whole(folder, part.name, part.kind)
        _check_tokenizer(folder, part, encoder.config.vocab_size)
    try:
        load_noise_schedule(folder)
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise BadInput(f"{folder.name}/scheduler cannot be used ({_shorten(error)}).") from error


def _check_denoiser(folder: Path, name: str, denoiser: Network) -> None:
    """By the names in its files: the weights are too large to read for this."""
    stored = set(_list_tensors(folder, name))
    _refuse_missing(folder, name, sorted(denoiser.module.state_dict().keys() - stored))


def _list_tensors(folder: Path, name: str) -> Iterable[str]:
    weights = "diffusion_pytorch_model.safetensors"
    index = folder / name / f"{weights}.index.json"
    shards = set(read_config(folder, f"{name}/{index.name}").get("weight_map", {}).values()) if index.exists() else ()
    for file in sorted(shards) or [weights]:
        try:
            with safe_open(folder / name / file, framework="pt") as tensors:
                yield from tensors.keys()
        except (OSError, SafetensorError) as error:
            raise BadInput(f"{folder.name}/{name}/{file} cannot be read ({_shorten(error)}).") from error


@torch.no_grad()
def _load_whole(folder: Path, name: str, kind: Any) -> Any:
    try:
        module, report = kind.from_pretrained(
            folder, subfolder=name, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise BadInput(f"{folder.name}/{name} cannot be loaded as {kind.__name__} ({_shorten(error)}).") from error
    _refuse_missing(folder, name, sorted(report["missing_keys"]))
    return module


def _refuse_missing(folder: Path, name: str, missing: Sequence[str]) -> None:
    if missing:
        named = ", ".join(missing[:MAX_NAMED]) + (", …" if len(missing) > MAX_NAMED else "")
        raise BadInput(f"{folder.name}/{name} lacks {len(missing)} of its weights ({named}): get the base again.")


def _check_tokenizer(folder: Path, part: Part, vocab_size: int) -> None:
    name = f"{folder.name}/{part.tokenizer}"
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / part.tokenizer, local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise whatever a damaged file leads to
        raise BadInput(
            f"{name} cannot be read as a tokenizer of CLIP: a base needs tokenizer.json, or vocab.json with merges.txt "
            f"({_shorten(error)})."
        ) from error
    tokens = [tuple(tokenizer(letter, add_special_tokens=False).input_ids) for letter in LETTERS]
    if len(set(tokens)) < len(tokens) or (tokenizer.unk_token_id,) in tokens:
        raise BadInput(f"{name} does not tell the letters of the alphabet apart: its vocabulary is incomplete.")
    if max(tokenizer.get_vocab().values()) >= vocab_size:
        raise BadInput(f"{name} has more tokens than {folder.name}/{part.name} knows ({vocab_size}).")


def _shorten(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
