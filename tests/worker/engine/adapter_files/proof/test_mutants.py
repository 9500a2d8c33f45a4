"""Files that are wrong in ways seen in the wild: each must be found, and said."""

from dataclasses import replace

import pytest

from core.domain.proof import LoadProof, Tool, ToolProof
from tests.worker.engine.adapter_files.proof.bases import base, diffusers_file, kohya_file, modules
from worker.engine.adapter_files.proof.files import AdapterFile
from worker.engine.adapter_files.proof.prove import prove
from worker.engine.adapter_files.proof.resolve import resolve_names


def of(proof: LoadProof, tool: Tool) -> ToolProof:
    return next(row for row in proof.tools if row.tool == tool)


def lora(family: str = "sd1") -> AdapterFile:
    return kohya_file(family, modules(family, "lora", "attention"))


def renamed(file: AdapterFile, key: str, other: str) -> AdapterFile:
    return replace(file, shapes={other if name == key else name: shape for name, shape in file.shapes.items()})


def test_an_adapter_without_alpha_loads_at_another_strength() -> None:
    file = lora()
    bare = replace(file, shapes={key: shape for key, shape in file.shapes.items() if not key.endswith(".alpha")})
    proof = prove(bare, base("sd1"))
    assert not proof.holds
    for tool in proof.tools:
        assert not tool.loads and not tool.dropped
        assert tool.notes[0].startswith("alpha is missing for 176 layers")


def test_a_diffusers_file_without_its_metadata_has_lost_alpha() -> None:
    file = diffusers_file(modules("sd1", "lora", "attention"))
    assert prove(file, base("sd1")).holds
    assert not prove(replace(file, metadata={"format": "pt"}), base("sd1")).holds


def test_diffusers_drops_the_sgm_half_of_a_mixed_sdxl_file() -> None:
    sgm = lora("sdxl")
    mixed = {
        key: shape for key, shape in sgm.shapes.items() if key.startswith("lora_unet_input_blocks_4_1_transformer")
    }
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    mixed |= {f"{key}.lora_down.weight": (4, 1280), f"{key}.lora_up.weight": (1280, 4), f"{key}.alpha": ()}
    proof = prove(replace(sgm, shapes=mixed), base("sdxl"))
    assert of(proof, "diffusers").num_resolved == 3
    assert "drops the sgm names" in of(proof, "diffusers").dropped[0].reason
    assert of(proof, "comfyui").loads and of(proof, "a1111").loads


def test_comfyui_loads_pefts_raw_names_without_attention() -> None:
    file = diffusers_file(modules("sd1", "lora", "attention_ff", text=False))
    row = of(prove(file, base("sd1")), "comfyui")
    assert not row.loads
    assert (row.num_keys, row.num_resolved) == (2 * 160, 2 * 32)
    assert "without it" in row.dropped[0].reason


def test_comfyui_reads_diffusers_old_names_whole() -> None:
    """comfy/weight_adapter/lora.py: halves behind ``_lora.`` and ``lora_linear_layer.``, and in ``processor``."""
    unet, text = "down_blocks.0.attentions.0.transformer_blocks.0.attn1", "text_model.encoder.layers.0.self_attn.q_proj"
    shapes = {}
    for half, unet_shape, text_shape in (("down", (4, 320), (4, 768)), ("up", (320, 4), (768, 4))):
        shapes[f"unet.{unet}.processor.to_q_lora.{half}.weight"] = unet_shape
        shapes[f"unet.{unet}.processor.to_out_lora.{half}.weight"] = unet_shape
        shapes[f"text_encoder.{text}.lora_linear_layer.{half}.weight"] = text_shape
    landings = resolve_names("comfyui", shapes, base("sd1"))
    assert {landing.layer.path for landing in landings.values() if landing.layer} == {
        f"{unet}.to_q",
        f"{unet}.to_out.0",
        text,
    }
    newer = {key.replace(".processor", "").replace("_lora.", ".lora."): shape for key, shape in shapes.items()}
    assert [key for key, landing in resolve_names("comfyui", newer, base("sd1")).items() if landing.layer] == [
        f"text_encoder.{text}.lora_linear_layer.{half}.weight" for half in ("down", "up")
    ]


@pytest.mark.parametrize("tool", ["diffusers", "sd-scripts", "a1111", "comfyui"])
def test_an_sdxl_file_does_not_load_on_sd1(tool: Tool) -> None:
    row = of(prove(lora("sdxl"), base("sd1")), tool)
    assert not row.loads and row.dropped


@pytest.mark.parametrize(("family", "version"), [("sdxl", "sd_v1"), ("sd1", "sdxl_base_v1-0")])
def test_a1111_hides_what_its_metadata_calls_another_family(family: str, version: str) -> None:
    proof = prove(replace(lora(family), metadata={"ss_base_model_version": version}), base(family))
    assert of(proof, "a1111").loads and not of(proof, "a1111").offered and not proof.holds
    assert "hides it" in of(proof, "a1111").notes[0]


@pytest.mark.parametrize("tool", ["diffusers", "sd-scripts", "a1111", "comfyui"])
def test_a_cut_key_is_found(tool: Tool) -> None:
    file = lora()
    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight"
    row = of(prove(renamed(file, key, key[:-12]), base("sd1")), tool)
    assert not row.loads
    assert row.dropped and row.dropped[0].reason


def test_half_a_layer_breaks_the_whole_file_in_a1111() -> None:
    shapes = dict(lora().shapes)
    del shapes["lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_up.weight"]
    landings = resolve_names("a1111", shapes, base("sd1"))
    assert not any(landing.layer for landing in landings.values())
    landings = resolve_names("comfyui", shapes, base("sd1"))
    assert sum(landing.layer is None for landing in landings.values()) == 2


@pytest.mark.parametrize("tool", ["diffusers", "sd-scripts", "a1111", "comfyui"])
def test_a_wrong_shape_is_found(tool: Tool) -> None:
    file = lora()
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
    row = of(prove(replace(file, shapes={**file.shapes, key: (4, 769)}), base("sd1")), tool)
    assert not row.loads
    assert "do not fit the layer's [1280, 768]" in row.dropped[0].reason
    assert row.num_resolved == (0 if tool in ("sd-scripts", "diffusers") else row.num_keys - 3)


def test_a1111_needs_all_of_openclips_attention() -> None:
    shapes = {key: shape for key, shape in lora("sdxl").shapes.items() if "te2" not in key or "v_proj" not in key}
    landings = resolve_names("a1111", shapes, base("sdxl"))
    assert {key.split("_text_model")[0] for key, landing in landings.items() if not landing.layer} == {"lora_te2"}
    assert sum(landing.layer is None for landing in landings.values()) == 32 * 3 * 3


def test_two_names_of_one_layer_are_reported() -> None:
    file = lora()
    te = {key: shape for key, shape in file.shapes.items() if key.startswith("lora_te_")}
    both = te | {key.replace("lora_te_", "lora_te1_"): shape for key, shape in te.items()}
    row = of(prove(replace(file, shapes=both), base("sd1")), "comfyui")
    assert row.num_resolved == 0 and "are one layer" in row.dropped[0].reason


def test_the_proof_is_stored_and_read_back() -> None:
    proof = prove(lora(), base("sd1"))
    assert LoadProof.model_validate_json(proof.model_dump_json()) == proof
    assert proof.holds
