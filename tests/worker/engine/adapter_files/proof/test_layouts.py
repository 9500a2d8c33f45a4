"""Bases of one, two and three layers a block: where each tool's own sums lead a layer's name."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

from core.domain.proof import LoadProof, ToolProof
from tests.worker.engine.adapter_files.proof.bases import RANK, base, kohya_file, modules
from worker.engine.adapter_files.formats import LoraModule, to_kohya
from worker.engine.adapter_files.proof.files import AdapterFile
from worker.engine.adapter_files.proof.layers import BaseLayers, Layer, list_layers, spell_original
from worker.engine.adapter_files.proof.layout import describe_layout, is_published, why_not_opened
from worker.engine.adapter_files.proof.prove import prove
from worker.engine.adapter_files.proof.resolve import resolve_names
from worker.engine.families.unet import UnetNetwork

TINY = Path("models/tiny/unet")


@cache
def make_unet(num_layers: int, widths: tuple[int, ...] = (320, 640, 1280, 1280)) -> UnetNetwork:
    """Of SD 1.5, with so many layers a block."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=64, layers_per_block=num_layers, block_out_channels=widths, cross_attention_dim=768
        )
    return UnetNetwork(unet)


def layers_of(network: UnetNetwork) -> BaseLayers:
    return list_layers("sd1", [network])


def locon(network: UnetNetwork) -> AdapterFile:
    """With every layer that a LoCon changes."""
    made = []
    for path in network.list_targets("locon", "all"):
        outputs, inputs, *kernel = network.module.get_submodule(path).weight.shape
        down = torch.zeros(RANK, inputs, *kernel, device="meta")
        up = torch.zeros(outputs, RANK, *[1] * len(kernel), device="meta")
        made.append(LoraModule(network, path, down, up, 2.0))
    shapes = {key: tuple(tensor.shape) for key, tensor in to_kohya(made).items()}
    return AdapterFile(shapes, {"ss_base_model_version": "sd_v1"})


def of(proof: LoadProof, tool: str) -> ToolProof:
    return next(row for row in proof.tools if row.tool == tool)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_the_original_names_are_those_that_diffusers_converts_from(num_layers: int) -> None:
    """Each layer carries its number through diffusers' reader of single-file checkpoints."""
    network = make_unet(num_layers)
    found = layers_of(network)
    spelled = spell_original(found)
    prefix = "model.diffusion_model."
    paths = list(spelled)
    tagged = {f"{prefix}{spelled[path]}.weight": torch.tensor([float(number)]) for number, path in enumerate(paths)}
    rest = {  # what it looks for besides, without a layer of ours
        f"{prefix}{name}.{end}": torch.tensor([-1.0])
        for name in (*spelled.values(), "out.0")
        for end in ("weight", "bias")
    }
    config = dict(network.module.config, class_embed_type=None, num_class_embeds=None, addition_embed_type=None)
    moved = convert_ldm_unet_checkpoint(rest | tagged, config)
    back = {paths[int(tag)]: key.removesuffix(".weight") for key, tag in moved.items() if int(tag) >= 0}
    assert back == {path: path for path in paths}


WITHIN = {"conv1": "in_layers_2", "conv2": "out_layers_3", "time_emb_proj": "emb_layers_1"}
WITHIN["conv_shortcut"] = "skip_connection"


def sum_as_a1111(name: str) -> str:
    """What A1111 1.10 makes of a name of the U-Net's blocks (extensions-builtin/Lora/networks.py), in flat names as it
    has them: kept apart from the rule, which works on paths."""
    side, _, rest = name.partition("_blocks_")
    if name.startswith("mid_block_"):
        kind, index, rest = name.removeprefix("mid_block_").split("_", 2)
        return f"middle_block_{1 if kind == 'attentions' else int(index) * 2}_{WITHIN.get(rest, rest)}"
    block, kind, index, rest = rest.split("_", 3)
    if kind == "downsamplers":
        return f"input_blocks_{3 + int(block) * 3}_0_op"
    if kind == "upsamplers":
        return f"output_blocks_{2 + int(block) * 3}_{2 if int(block) > 0 else 1}_conv"
    number = int(block) * 3 + int(index) + (1 if side == "down" else 0)
    column = 1 if kind == "attentions" else 0
    return f"{'input' if side == 'down' else 'output'}_blocks_{number}_{column}_{WITHIN.get(rest, rest)}"


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_a1111_puts_each_layer_where_its_sums_lead(num_layers: int) -> None:
    network = make_unet(num_layers)
    found, file = layers_of(network), locon(network)
    there = {name.replace(".", "_"): path for path, name in spell_original(found).items()}
    landings = resolve_names("a1111", file.shapes, found)
    for key, landing in landings.items():
        wanted = there.get(sum_as_a1111(key.partition(".")[0].removeprefix("lora_unet_")))
        if wanted is None:
            assert landing.layer is None and "finds no layer" in landing.reason, key
        elif landing.layer is None:
            assert "do not fit" in landing.reason or "are one layer" in landing.reason, (key, landing.reason)
        else:
            assert landing.layer.path == wanted, key
    row = of(prove(file, found), "a1111")
    assert (row.verdict == "same") == (num_layers == 2) == row.loads == row.required
    assert (row.num_misplaced == 0) == (num_layers == 2)


@pytest.mark.parametrize(
    ("num_layers", "name", "lands_on"),
    [
        (1, "up_blocks_1_attentions_0_proj_in", "up_blocks.1.attentions.1.proj_in"),  # output_blocks.3
        (1, "up_blocks_2_attentions_0_proj_in", None),  # output_blocks.6 is in the last level, of another width
        (1, "up_blocks_3_attentions_0_proj_in", None),  # output_blocks.9 is not there
        (1, "mid_block_attentions_0_proj_in", "mid_block.attentions.0.proj_in"),
        (1, "down_blocks_0_attentions_0_proj_in", "down_blocks.0.attentions.0.proj_in"),
        (1, "down_blocks_1_attentions_0_proj_in", None),  # input_blocks.4 is a downsampler
        (2, "down_blocks_1_attentions_0_proj_in", "down_blocks.1.attentions.0.proj_in"),
        (3, "down_blocks_1_attentions_1_proj_in", "down_blocks.1.attentions.0.proj_in"),  # input_blocks.5
        (3, "down_blocks_1_attentions_2_proj_in", "down_blocks.1.attentions.1.proj_in"),
        (3, "down_blocks_2_attentions_2_proj_in", "down_blocks.2.attentions.0.proj_in"),  # input_blocks.9
        (3, "down_blocks_2_attentions_0_proj_in", None),  # input_blocks.7 is of the level before, narrower
    ],
)
def test_a1111_on_single_layers(num_layers: int, name: str, lands_on: str | None) -> None:
    network = make_unet(num_layers)
    landings = resolve_names("a1111", locon(network).shapes, layers_of(network))
    landing = landings[f"lora_unet_{name}.lora_down.weight"]
    assert (landing.layer and landing.layer.path) == lands_on, landing
    assert landing.misplaced == (lands_on is not None and lands_on.replace(".", "_") != name)


def open_tiny(num_layers: int) -> UnetNetwork:
    config = {**UNet2DConditionModel.load_config(TINY), "layers_per_block": num_layers}
    with torch.device("meta"):
        return UnetNetwork(UNet2DConditionModel.from_config(config))


def test_the_bundled_base_has_two_layers_a_block_and_attention_below() -> None:
    """A1111's names miss the first upsampler alone; ComfyUI and sd-scripts open no such base."""
    network = open_tiny(num_layers=UNet2DConditionModel.load_config(TINY)["layers_per_block"])
    assert describe_layout(layers_of(network)).layers_per_block == 2
    proof = prove(locon(network), layers_of(network))
    a1111 = of(proof, "a1111")
    assert (a1111.num_keys, a1111.num_resolved, a1111.num_misplaced, a1111.required) == (594, 591, 0, False)
    assert [of(proof, tool).opens_base for tool in ("comfyui", "sd-scripts")] == [False, False]
    assert of(proof, "diffusers").required and proof.holds


def test_one_layer_a_block_and_other_widths_are_distinguished_from_the_bases_of_the_tools() -> None:
    """Of 387 keys A1111 finds no layer for 168 and puts those of 14 layers on others; ComfyUI and sd-scripts open no
    such base."""
    network = open_tiny(num_layers=1)
    proof = prove(locon(network), layers_of(network))
    a1111 = of(proof, "a1111")
    assert (a1111.num_keys, a1111.num_misplaced, a1111.verdict) == (387, 3 * 14, "wrong")
    landings = resolve_names("a1111", locon(network).shapes, layers_of(network))
    assert sum("finds no layer" in landing.reason for landing in landings.values()) == 168
    assert not a1111.required and not a1111.loads and "published layout" in a1111.notes[0]
    for tool in ("comfyui", "sd-scripts"):
        row = of(proof, tool)
        assert (row.opens_base, row.required, row.loads, row.num_resolved, row.verdict) == (False,) * 3 + (0, "nothing")
    assert of(proof, "diffusers").required and proof.holds


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_comfyui_opens_sd1_whatever_its_layers_a_block(num_layers: int) -> None:
    network = make_unet(num_layers)
    found = layers_of(network)
    assert describe_layout(found).layers_per_block == num_layers
    assert is_published(found) == (num_layers == 2)
    assert why_not_opened("comfyui", found) == ""
    row = of(prove(locon(network), found), "comfyui")
    assert row.loads and row.num_resolved == row.num_keys
    assert (why_not_opened("sd-scripts", found) == "") == (num_layers == 2)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_every_tool_opens_the_published_bases(family: str) -> None:
    assert is_published(base(family))
    assert [why_not_opened(tool, base(family)) for tool in ("sd-scripts", "a1111", "comfyui")] == [""] * 3


def test_comfyui_tells_sdxl_by_its_transformers_too() -> None:
    found = base("sdxl")
    deep = re.compile(r"down_blocks\.2\.attentions\.\d\.transformer_blocks\.([4-9])\.")
    shallow = {layer: shape for layer, shape in found.shapes.items() if not deep.match(layer.path)}
    assert why_not_opened("comfyui", BaseLayers("sdxl", shallow)) == ""  # SSD-1B
    odd = {layer: shape for layer, shape in shallow.items() if "down_blocks.2.attentions.1.tr" not in layer.path}
    assert "transformers" in why_not_opened("comfyui", BaseLayers("sdxl", odd))


def test_dora_in_a1111_is_wrong_and_in_comfyui_differs() -> None:
    proof = prove(kohya_file("sd1", modules("sd1", "dora", "attention")), base("sd1"))
    assert {row.tool: row.verdict for row in proof.tools} == {
        "a1111": "wrong",
        "comfyui": "differs",
        "sd-scripts": "partial",
        "diffusers": "partial",
    }
    assert any("wrong" in note for note in of(proof, "a1111").notes)


def test_a_key_on_a_layer_that_is_not_its_own_names_both() -> None:
    network = make_unet(3)
    landings = resolve_names("a1111", locon(network).shapes, layers_of(network))
    landing = landings["lora_unet_down_blocks_1_attentions_1_proj_in.lora_up.weight"]
    assert landing.layer == Layer("unet", "down_blocks.1.attentions.0.proj_in")
    assert "down_blocks.1.attentions.0.proj_in, another layer than down_blocks.1.attentions.1" in landing.reason
