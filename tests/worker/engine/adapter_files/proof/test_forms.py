"""Every form in which files name their layers: read as diffusers' own loader reads it, where it reads it at all."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers.utils import convert_state_dict_to_diffusers
from safetensors.torch import save_file

from core.domain.model import Family
from tests.fixtures.bases import write_random_base
from worker.engine.adapter_files.formats import LoraModule, Tensors, to_kohya
from worker.engine.adapter_files.proof.adapters import AdapterModule, read_adapter
from worker.engine.adapter_files.proof.layers import BaseLayers, Layer, list_layers, spell_original
from worker.engine.adapter_files.proof.measured import load_in_diffusers
from worker.engine.families.protocol import Network
from worker.engine.families.registry import build_networks

FAMILIES: tuple[Family, ...] = ("sd1", "sdxl")
RANK = 3


@dataclass(frozen=True)
class Scene:
    """A small base, and an adapter of its attention in the names that peft gives it."""

    family: Family
    networks: list[Network]
    base: BaseLayers
    made: list[AdapterModule]

    @property
    def peft(self) -> Tensors:
        tensors: Tensors = {}
        for row in self.made:
            tensors[f"{row.layer.part}.{row.layer.path}.lora_A.weight"] = row.down
            tensors[f"{row.layer.part}.{row.layer.path}.lora_B.weight"] = row.up
        return tensors

    def write(self, folder: Path, tensors: Tensors, **metadata: str) -> Path:
        path = folder / "a.safetensors"
        save_file({key: tensor.clone() for key, tensor in tensors.items()}, path, metadata or None)
        return path

    def check_read(self, path: Path, scale: float = 1.0) -> None:
        """Each layer's update is there, to the last bit."""
        read = {row.layer: row for row in read_adapter(path, self.base)}
        assert read.keys() == {row.layer for row in self.made}
        for row in self.made:
            found = read[row.layer]
            assert torch.equal(found.down, row.down) and torch.equal(found.up, row.up)
            assert found.alpha / RANK == pytest.approx(scale)

    def check_diffusers(self, path: Path) -> None:
        """What the import reads is what diffusers' loader adds to each layer."""
        loaded = load_in_diffusers(path, self.family, self.networks, read_adapter(path, self.base))
        measured = loaded.summarise()
        wrong = [layer for layer in loaded.differences if not loaded.is_same(layer)]
        assert (loaded.failure, wrong, measured.num_same) == ("", [], len(self.made))


@pytest.fixture(scope="module", params=FAMILIES)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    folder = tmp_path_factory.mktemp("models") / request.param
    write_random_base(folder, family=request.param)
    networks = build_networks(request.param, folder)
    base = list_layers(request.param, networks)
    rng = torch.Generator().manual_seed(3)
    made = []
    for network in networks:
        for path in network.list_targets("lora", "attention"):
            layer = Layer(network.diffusers_prefix, network.diffusers_path(path))
            outputs, inputs = base.shapes[layer]
            down, up = torch.randn(RANK, inputs, generator=rng), torch.randn(outputs, RANK, generator=rng)
            made.append(AdapterModule(layer, down, up, float(RANK)))
    return Scene(request.param, networks, base, made)


def rename(tensors: Tensors, *rules: tuple[str, str]) -> Tensors:
    renamed: Tensors = {}
    for key, tensor in tensors.items():
        for pattern, other in rules:
            key = re.sub(pattern, other, key)
        assert key not in renamed
        renamed[key] = tensor
    return renamed


def as_diffusers_writes(tensors: Tensors) -> Tensors:
    """By its own function, one network at a time, as its training scripts call it."""
    written: Tensors = {}
    for part in ("unet", "text_encoder", "text_encoder_2"):
        own = {key: tensor for key, tensor in tensors.items() if key.startswith(f"{part}.")}
        if own:
            written |= convert_state_dict_to_diffusers(own)
    return written


OLD_UNET = ((r"^(unet\..*attn\d)\.to_(q|k|v|out)(\.0)?\.lora_", r"\1.processor.to_\2_lora.lora_"),)
HALVES = ((r"lora_A\.weight$", "down.weight"), (r"lora_B\.weight$", "up.weight"))
LINEAR_LAYER = ((r"(_proj)\.lora_", r"\1.lora_linear_layer.lora_"),)
OLD_TEXT = ((r"self_attn\.(q|k|v|out)_proj\.lora_", r"self_attn.to_\1_lora.lora_"),)
READ_BY_DIFFUSERS: dict[str, Callable[[Tensors], Tensors]] = {
    "peft's names": lambda tensors: tensors,
    "what diffusers 0.23 to 0.42 write": as_diffusers_writes,
    "diffusers 0.17 to 0.22": lambda tensors: rename(tensors, *OLD_UNET, *LINEAR_LAYER, *HALVES),
    "diffusers 0.15 and 0.16": lambda tensors: rename(tensors, *OLD_UNET, *OLD_TEXT, *HALVES),
    "CLIPTextModel of transformers 5": lambda tensors: rename(
        tensors, (r"^text_encoder\.text_model\.", "text_encoder.")
    ),
}
READ_BY_OTHERS: dict[str, Callable[[Tensors], Tensors]] = {
    "peft's model": lambda tensors: rename(tensors, (r"^(\w+)\.", r"\1.base_model.model.")),
    "an adapter's name in the keys": lambda tensors: rename(tensors, (r"(lora_[AB])\.", r"\1.default.")),
    "kohya's halves behind dots": lambda tensors: rename(tensors, ("lora_A", "lora_down"), ("lora_B", "lora_up")),
    "ComfyUI's text encoders": lambda tensors: rename(
        tensors,
        (r"^text_encoder\.", "text_encoders.clip_l.transformer."),
        (r"^text_encoder_2\.", "text_encoders.clip_g.transformer."),
    ),
}


@pytest.mark.parametrize("form", READ_BY_DIFFUSERS)
def test_what_diffusers_reads_is_read_as_diffusers_reads_it(scene: Scene, tmp_path: Path, form: str) -> None:
    path = scene.write(tmp_path, READ_BY_DIFFUSERS[form](scene.peft))
    scene.check_read(path)
    scene.check_diffusers(path)


@pytest.mark.parametrize("form", READ_BY_OTHERS)
def test_what_other_tools_write_is_read(scene: Scene, tmp_path: Path, form: str) -> None:
    scene.check_read(scene.write(tmp_path, READ_BY_OTHERS[form](scene.peft)))


def test_a_unet_alone_needs_no_prefix(scene: Scene, tmp_path: Path) -> None:
    """As ``unet.save_lora_adapter`` writes it, alpha in metadata without a prefix too, and peft its models."""
    unet = [row for row in scene.made if row.layer.part == "unet"]
    alone = Scene(scene.family, scene.networks, scene.base, unet)
    config = json.dumps({"r": RANK, "lora_alpha": 6.0})
    for prefix, metadata, scale in (
        ("", {"lora_adapter_metadata": config}, 6.0 / RANK),
        ("base_model.model.", {}, 1.0),
        ("unet.base_model.model.", {}, 1.0),
    ):
        path = alone.write(tmp_path, rename(alone.peft, (r"^unet\.", prefix)), **metadata)
        alone.check_read(path, scale)


def test_the_original_codes_names_are_read_with_dots_and_without(scene: Scene, tmp_path: Path) -> None:
    """OMI's and ComfyUI's paths, and kohya's for SDXL, each with its alpha."""
    original = spell_original(scene.base)
    flat = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
    omi = {"unet": "unet", "text_encoder": "clip_l", "text_encoder_2": "clip_g"}
    comfyui = {**omi, "unet": "diffusion_model"}
    for prefixes, dotted in ((omi, True), (comfyui, True), (flat, False)):
        tensors: Tensors = {}
        for row in scene.made:
            place = original.get(row.layer.path, row.layer.path)
            name = f"{prefixes[row.layer.part]}.{place}"
            name = name if dotted else name.replace(".", "_")
            tensors |= {f"{name}.lora_down.weight": row.down, f"{name}.lora_up.weight": row.up}
            tensors[f"{name}.alpha"] = torch.tensor(2.0)
        scene.check_read(scene.write(tmp_path, tensors), 2.0 / RANK)


def test_kohyas_files_are_read_as_diffusers_reads_them(scene: Scene, tmp_path: Path) -> None:
    by_part = {network.diffusers_prefix: network for network in scene.networks}
    made = [LoraModule(by_part[row.layer.part], row.layer.path, row.down, row.up, 2.0) for row in scene.made]
    path = scene.write(tmp_path, to_kohya(made))
    scene.check_read(path, 2.0 / RANK)
    scene.check_diffusers(path)


@pytest.mark.filterwarnings("ignore:The following alpha_pattern keys")
@pytest.mark.parametrize("rslora", [False, True])
def test_the_alphas_of_metadata_are_read_as_peft_reads_them(scene: Scene, tmp_path: Path, rslora: bool) -> None:
    """Of whole networks, of layers by their whole paths and by their ends; the files of earlier versions are such."""
    config: dict[str, object] = {}
    for part in {row.layer.part for row in scene.made}:
        paths = [row.layer.path.removeprefix("text_model.") for row in scene.made if row.layer.part == part]
        whole = f"^{paths[-1]}" if part == "unet" else paths[-1]
        pattern = {"attn1.to_q": 5.0, whole: 7.0, "layers.0.self_attn.k_proj": 9.0}
        config |= {f"{part}.r": RANK, f"{part}.lora_alpha": 2.0, f"{part}.target_modules": paths}
        config |= {f"{part}.alpha_pattern": pattern, f"{part}.use_rslora": rslora}
    path = scene.write(tmp_path, scene.peft, lora_adapter_metadata=json.dumps(config))
    alphas = {row.alpha for row in read_adapter(path, scene.base)}
    factor = RANK**0.5 if rslora else 1.0
    assert {round(alpha / factor, 6) for alpha in alphas} == {2.0, 5.0, 7.0, 9.0}
    scene.check_diffusers(path)


def test_of_two_names_for_one_layer_one_is_read(scene: Scene, tmp_path: Path) -> None:
    """diffusers' words before the original code's, as diffusers does it."""
    row = next(row for row in scene.made if row.layer.part == "unet")
    original = spell_original(scene.base)[row.layer.path]
    doubled = {f"diffusion_model.{original}.lora_A.weight": row.down + 1}
    doubled[f"diffusion_model.{original}.lora_B.weight"] = row.up + 1
    scene.check_read(scene.write(tmp_path, doubled | scene.peft))
