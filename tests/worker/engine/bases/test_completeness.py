"""A folder is a base only if training finds all that it reads."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.fixtures.bases import write_random_base
from worker.engine.bases.inspection import inspect
from worker.engine.errors import BadInput


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases") / "whole"
    write_random_base(folder)
    return folder


def remove_tokenizer(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")


def cut_tokenizer(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({"<|startoftext|>": 0, "<|endoftext|>": 1}))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")


def damage_tokenizer(folder: Path) -> None:
    for path in (folder / "tokenizer").iterdir():
        path.write_text('{"version": ')


def shrink_embedding(folder: Path) -> None:
    """An encoder of fewer tokens than the vocabulary has."""
    config = json.loads((folder / "text_encoder" / "config.json").read_text())
    (folder / "text_encoder" / "config.json").write_text(json.dumps(config | {"vocab_size": 20}))
    path = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    [embedding] = [name for name in tensors if name.endswith("token_embedding.weight")]
    save_file(tensors | {embedding: tensors[embedding][:20].clone()}, path, metadata={"format": "pt"})


def drop_tensor(part: str, file: str) -> Callable[[Path], None]:
    def drop(folder: Path) -> None:
        path = folder / part / file
        tensors = load_file(path)
        tensors.pop(sorted(tensors)[0])
        save_file(tensors, path, metadata={"format": "pt"})

    return drop


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def truncate(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:40])


WEIGHTS = "diffusion_pytorch_model.safetensors"
CASES = {
    "no tokenizer": (remove_tokenizer, "tokenizer cannot be read"),
    "two tokens": (cut_tokenizer, "tell the letters of the alphabet apart"),
    "damaged tokenizer": (damage_tokenizer, "tokenizer cannot be read"),
    "more tokens than embeddings": (shrink_embedding, r"more tokens than \w+/text_encoder knows \(20\)"),
    "a tensor of the U-Net": (drop_tensor("unet", WEIGHTS), "unet lacks 1 of its weights"),
    "a tensor of the VAE": (drop_tensor("vae", WEIGHTS), "vae (lacks 1 of its weights|cannot be loaded)"),
    "a tensor of the text encoder": (drop_tensor("text_encoder", "model.safetensors"), "text_encoder lacks 1 of"),
    "no U-Net": (remove(f"unet/{WEIGHTS}"), f"unet/{WEIGHTS} cannot be read"),
    "no VAE": (remove(f"vae/{WEIGHTS}"), "vae cannot be loaded"),
    "half a U-Net": (truncate(f"unet/{WEIGHTS}"), f"unet/{WEIGHTS} cannot be read"),
    "half a text encoder": (truncate("text_encoder/model.safetensors"), "text_encoder cannot be loaded"),
    "a scheduler without betas": (
        lambda folder: (folder / "scheduler" / "scheduler_config.json").write_text('{"beta_schedule": "spiral"}'),
        "scheduler cannot be used",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_incomplete_folder_is_refused_with_the_part(whole: Path, tmp_path: Path, case: str) -> None:
    change, reason = CASES[case]
    folder = tmp_path / "base"
    shutil.copytree(whole, folder)
    change(folder)
    with pytest.raises(BadInput, match=reason):
        inspect(folder, model_id="base")


def test_a_whole_folder_passes(whole: Path) -> None:
    assert inspect(whole, model_id="whole").family == "sd1"
