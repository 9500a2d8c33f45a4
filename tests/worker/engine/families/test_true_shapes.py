"""Each family at its true size, on the meta device: how many layers adapters change, what they cost, their names.

The counts of modules are those that sd-scripts reports for the same targets; the numbers of parameters of a rank-4
LoRA on the attention layers are those of diffusers' own training scripts.
"""

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from core.domain.model import Family
from worker.engine.bases.inspection import measure_adapters, measure_text_adapters
from worker.engine.bases.single_file import CONFIGS
from worker.engine.families import sdxl
from worker.engine.families.clip import ClipNetwork
from worker.engine.families.recognition import read_config
from worker.engine.families.registry import FAMILIES, find_family
from worker.engine.families.unet import UnetNetwork


def build_unet(family: Family) -> UnetNetwork:
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(read_config(CONFIGS / family, "unet/config.json"))
    return sdxl.make_network(unet) if family == "sdxl" else UnetNetwork(unet)


def build_text_encoder(family: Family, part: str = "text_encoder") -> Any:
    kind = CLIPTextModel if part == "text_encoder" else CLIPTextModelWithProjection
    with torch.device("meta"):
        return kind(CLIPTextConfig(**read_config(CONFIGS / family, f"{part}/config.json")))


def count(module: torch.nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_the_configs_are_of_their_family(family: Family) -> None:
    assert find_family(CONFIGS / family) == family


@pytest.mark.parametrize(
    ("family", "unet", "text_encoders"),
    [
        ("sd1", 859_520_964, [123_060_480]),
        ("sd2", 865_910_724, [340_387_840]),
        ("sdxl", 2_567_463_684, [123_060_480, 694_659_840]),
    ],
)
def test_sizes(family: Family, unet: int, text_encoders: list[int]) -> None:
    assert count(build_unet(family).module) == unet
    assert [count(build_text_encoder(family, part)) for part in parts_of(family)] == text_encoders
    with torch.device("meta"):
        assert count(AutoencoderKL.from_config(read_config(CONFIGS / family, "vae/config.json"))) == 83_653_863


def parts_of(family: Family) -> list[str]:
    return ["text_encoder", "text_encoder_2"] if family == "sdxl" else ["text_encoder"]


@pytest.mark.parametrize(
    ("family", "attention", "attention_ff", "everything", "locon"),
    [("sd1", 128, 160, 192, 278), ("sd2", 128, 160, 192, 278), ("sdxl", 560, 700, 722, 788)],
)
def test_layers_of_the_unet(family: Family, attention: int, attention_ff: int, everything: int, locon: int) -> None:
    network = build_unet(family)
    assert len(network.list_targets("lora", "attention")) == attention
    assert len(network.list_targets("lora", "attention_ff")) == attention_ff
    assert len(network.list_targets("lora", "all")) == len(network.list_targets("dora", "all")) == everything
    assert len(network.list_targets("locon", "all")) == locon


@pytest.mark.parametrize(("family", "counts"), [("sd1", [72]), ("sd2", [138]), ("sdxl", [72, 192])])
def test_layers_of_the_text_encoders(family: Family, counts: list[int]) -> None:
    networks = [ClipNetwork(build_text_encoder(family, part), "lora_te", part) for part in parts_of(family)]
    assert [len(network.list_targets("lora", "all")) for network in networks] == counts
    assert [len(network.list_targets("lora", "attention")) for network in networks] == [n * 2 // 3 for n in counts]


@pytest.mark.parametrize(("family", "rank_4"), [("sd1", 797_184), ("sd2", 829_952), ("sdxl", 5_806_080)])
def test_parameters_of_adapters(family: Family, rank_4: int) -> None:
    assert 4 * measure_adapters(build_unet(family))["lora/attention"] == rank_4


def test_parameters_of_text_adapters() -> None:
    """Twelve layers of 768: four square projections, and two to and from 3072."""
    found = measure_text_adapters([FAMILIES["sd1"].text_encoders[0].build(CONFIGS / "sd1")])
    assert found["text_encoder/attention"] == 12 * 4 * (768 + 768)
    assert found["text_encoder/all"] == found["text_encoder/attention"] + 12 * 2 * (768 + 3072)


def kohya_names(network: Any, kind: str = "locon") -> set[str]:
    paths = [network.kohya_path(layer) for layer in network.list_targets(kind, "all")]
    assert len(set(paths)) == len(paths)
    return {f"{network.kohya_prefix}_{path.replace('.', '_')}" for path in paths}


def test_names_of_sd1_and_sd2() -> None:
    for family in ("sd1", "sd2"):
        assert {
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_out_0",
            "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_0_proj",
            "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_ff_net_2",
            "lora_unet_down_blocks_0_attentions_0_proj_in",
            "lora_unet_up_blocks_0_resnets_1_conv_shortcut",
            "lora_unet_down_blocks_2_downsamplers_0_conv",
        } <= kohya_names(build_unet(family))  # type: ignore[arg-type]
    last = {"sd1": 11, "sd2": 22}
    for family, layer in last.items():
        network = ClipNetwork(build_text_encoder(family), "lora_te", "text_encoder")  # type: ignore[arg-type]
        names = kohya_names(network)
        assert f"lora_te_text_model_encoder_layers_{layer}_self_attn_q_proj" in names
        assert f"lora_te_text_model_encoder_layers_{layer + 1}_self_attn_q_proj" not in names


def test_names_of_sdxl() -> None:
    names = kohya_names(build_unet("sdxl"))
    assert {
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
        "lora_unet_input_blocks_8_1_transformer_blocks_9_ff_net_0_proj",
        "lora_unet_middle_block_1_transformer_blocks_9_attn2_to_out_0",
        "lora_unet_middle_block_1_proj_in",
        "lora_unet_output_blocks_0_1_transformer_blocks_0_attn2_to_k",
        "lora_unet_output_blocks_5_1_proj_out",
        "lora_unet_input_blocks_1_0_in_layers_2",
        "lora_unet_input_blocks_2_0_emb_layers_1",
        "lora_unet_input_blocks_3_0_op",
        "lora_unet_input_blocks_6_0_op",
        "lora_unet_input_blocks_4_0_skip_connection",
        "lora_unet_middle_block_2_out_layers_3",
        "lora_unet_output_blocks_2_2_conv",
        "lora_unet_output_blocks_5_2_conv",
        "lora_unet_output_blocks_8_0_out_layers_3",
    } <= names
    assert not {name for name in names if "down_blocks" in name or "resnets" in name or "up_blocks" in name}
    networks = [
        ClipNetwork(build_text_encoder("sdxl", part), f"lora_te{number}", part)
        for number, part in enumerate(parts_of("sdxl"), start=1)
    ]
    assert "lora_te1_text_model_encoder_layers_11_mlp_fc1" in kohya_names(networks[0])
    assert "lora_te2_text_model_encoder_layers_31_self_attn_out_proj" in kohya_names(networks[1])
    assert networks[1].diffusers_path("text_model.encoder.layers.0.mlp.fc1") == "text_model.encoder.layers.0.mlp.fc1"
