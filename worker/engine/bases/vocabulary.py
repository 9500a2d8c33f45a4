"""CLIP's vocabulary, which single-file checkpoints lack: from this machine's models, from the package open_clip_torch
if it is installed, or from the Hub.

All families with CLIP use the same one; they differ in the padding token.
"""

import gzip
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from core.domain.model import name_families
from worker.engine.bases.hub import REFUSALS, is_offline
from worker.engine.errors import BadInput

FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
PROBE = {"a photo of a cat": (49406, 320, 1125, 539, 320, 2368, 49407)}
"""A text and its numbers in CLIP's vocabulary: no other vocabulary of the same size gives them."""
HUB_ID = "openai/clip-vit-large-patch14"
MERGES, NUM_MERGES, WORD_END = "bpe_simple_vocab_16e6.txt.gz", 49_152 - 256 - 2 + 1, "</w>"

log = logging.getLogger("atelier.models")

Probe = Mapping[str, Sequence[int]]


def find_vocabulary(roots: Sequence[Path], probe: Probe = PROBE) -> CLIPTokenizer:
    """The first below the roots, or the package's, or the Hub's. Raises BadInput, saying where to put one."""
    for folder in _list_folders(roots):
        tokenizer = _read(folder, probe)
        if tokenizer is not None:
            return tokenizer
    return _unpack(probe) or _fetch(roots, probe)


def write_tokenizer(vocabulary: CLIPTokenizer, config: Mapping[str, Any], folder: Path) -> None:
    """``config``: from the text encoder that will read the tokens."""
    vocabulary.pad_token = vocabulary.convert_ids_to_tokens(config["pad_token_id"])
    vocabulary.model_max_length = config["max_position_embeddings"]
    vocabulary.save_pretrained(folder)


def _list_folders(roots: Sequence[Path]) -> Iterator[Path]:
    """At most two levels deep: a folder of the vocabulary's own, or a registered base's tokenizer."""
    for root in roots:
        for folder in (root, *sorted(root.glob("*/")), *sorted(root.glob("*/*/"))):
            if any(all((folder / name).is_file() for name in names) for names in FILES):
                yield folder


def _read(folder: Path, probe: Probe) -> CLIPTokenizer | None:
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        if all(tokenizer(text).input_ids == list(numbers) for text, numbers in probe.items()):
            return tokenizer
    except (OSError, ValueError, TypeError, KeyError) as error:  # another model's, such as T5's
        log.info("%s has no vocabulary of CLIP's: %s", folder, error)
    return None


def _unpack(probe: Probe) -> CLIPTokenizer | None:
    """From open_clip_torch, which ships CLIP's merges as OpenAI published them. The numbers are those of OpenAI's
    ``SimpleTokenizer``: the bytes, the bytes at a word's end, the merges in turn, and two special tokens."""
    package = find_spec("open_clip")  # not imported: it needs torchvision
    found = [Path(place) / MERGES for place in (package and package.submodule_search_locations) or ()]
    file = next((path for path in found if path.is_file()), None)
    if file is None:
        return None
    merges = [line for line in gzip.decompress(file.read_bytes()).decode().split("\n")[1:NUM_MERGES] if line]
    letters = _list_letters()
    words = [*letters, *(letter + WORD_END for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    with tempfile.TemporaryDirectory() as folder:
        numbers = {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
        (Path(folder) / "vocab.json").write_text(json.dumps(numbers))
        (Path(folder) / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
        return _read(Path(folder), probe)


def _list_letters() -> list[str]:
    """A letter for each byte, the visible ones first (GPT-2's ``bytes_to_unicode``)."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    unseen = [byte for byte in range(256) if byte not in seen]
    return [*map(chr, seen), *(chr(256 + index) for index in range(len(unseen)))]


def _fetch(roots: Sequence[Path], probe: Probe) -> CLIPTokenizer:
    missing = (
        "A single-file checkpoint has no vocabulary for its text encoder, and CLIP's is not on this machine. "
        f"Put vocab.json and merges.txt of {HUB_ID} into {roots[0] / 'clip'}, or register a base in diffusers' "
        f"layout of {name_families('or')} first, or install it by `pip install --no-deps open_clip_torch`"
    )
    if is_offline():
        raise BadInput(f"{missing}. (HF_HUB_OFFLINE is set, so the Hub is not asked.)")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(HUB_ID)
    except REFUSALS as error:
        raise BadInput(f"{missing}. (The Hub cannot be reached from here.)") from error
    if any(tokenizer(text).input_ids != list(numbers) for text, numbers in probe.items()):
        raise BadInput(f"{missing}. (The Hub's is another one.)")
    return tokenizer
