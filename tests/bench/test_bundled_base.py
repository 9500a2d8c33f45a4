"""The bundled base is readable by libraries of two generations."""

import json

from safetensors import safe_open

from core.model_folders import BUNDLED

TINY = BUNDLED / "tiny"


def test_transformers_4_finds_the_tokenizer_and_every_name_of_the_text_encoder() -> None:
    vocabulary = json.loads((TINY / "tokenizer" / "vocab.json").read_text())
    current = json.loads((TINY / "tokenizer" / "tokenizer.json").read_text())["model"]
    merges = (TINY / "tokenizer" / "merges.txt").read_text().splitlines()[1:]
    assert vocabulary == current["vocab"]
    assert [merge.split() for merge in merges] == [list(pair) for pair in current["merges"]]
    with safe_open(TINY / "text_encoder" / "model.safetensors", "pt") as weights:
        names = list(weights.keys())
    assert names and all(name.startswith("text_model.") for name in names)
