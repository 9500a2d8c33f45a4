"""The rules against what the tools themselves did, and the exporter's names against the same lists."""

from typing import Any

import pytest

from core.domain.proof import Tool
from tests.worker.engine.adapter_files.proof.bases import FAMILIES, RANK, base, golden, kohya_file, modules
from worker.engine.adapter_files.proof.files import split_key
from worker.engine.adapter_files.proof.prove import promised_tools, prove
from worker.engine.adapter_files.proof.resolve import resolve_names

TOOLS: tuple[Tool, ...] = ("sd-scripts", "a1111", "comfyui")
STYLES = (
    *("unet_diffusers", "unet_sgm", "unet_peft", "unet_processor"),
    *("te", "te1", "te2", "te_unprefixed", "te_peft", "te2_peft"),
)


def offered(family: str, style: str) -> dict[str, tuple[int, ...]]:
    """The file that was offered to the tools: each name with tensors of the shapes it means."""
    shapes: dict[str, tuple[int, ...]] = {}
    dotted = style.endswith(("peft", "processor"))
    for name, (outputs, inputs, *kernel) in golden()[family]["offers"][style].items():
        shapes[f"{name}.lora_{'A' if dotted else 'down'}.weight"] = (RANK, inputs, *kernel)
        shapes[f"{name}.lora_{'B' if dotted else 'up'}.weight"] = (outputs, RANK, *[1] * len(kernel))
        if not dotted:
            shapes[f"{name}.alpha"] = ()
    return shapes


def answered(family: str, tool: str, style: str) -> dict[str, str]:
    """Name -> diffusers' "part/path" of the layer that the tool really changed."""
    own: dict[str, str] = golden()[family]["layers"]
    found: dict[str, str] = golden()[family][tool][style]
    return {name: own.get(layer, layer) for name, layer in found.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_lists_have_the_counts_that_are_known_of_the_tools(family: str) -> None:
    lists: dict[str, Any] = golden()[family]
    style = "unet_sgm" if family == "sdxl" else "unet_diffusers"
    inner = [name for name in lists["sd-scripts"][style] if "transformer_blocks" in name or "_proj_" in name]
    texts = {part: len(lists["sd-scripts"][part]) for part in ("te", "te1", "te2")}
    linear = {"sd1": 192, "sd2": 192, "sdxl": 722}[family]
    assert len([name for name in inner if "time_emb" not in name]) == linear
    assert (
        texts
        == {
            "sd1": {"te": 72, "te1": 0, "te2": 0},
            "sd2": {"te": 138, "te1": 0, "te2": 0},
            "sdxl": {"te": 0, "te1": 72, "te2": 192},
        }[family]
    )


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_rules_say_what_the_tool_did(family: str, tool: Tool, style: str) -> None:
    landings = resolve_names(tool, offered(family, style), base(family))
    said = {
        split_key(key)[0]: f"{landing.layer.part}/{landing.layer.path}"
        for key, landing in landings.items()
        if landing.layer
    }
    assert said == answered(family, tool, style)
    assert all(landing.layer or landing.reason for landing in landings.values())


@pytest.mark.parametrize("kind", ["lora", "locon", "dora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_exporter_writes_is_on_the_tools_own_lists(family: str, kind: str) -> None:
    """Each layer's name lands, in each tool, on the layer that was trained. All targets have the names of fewer."""
    trained = modules(family, kind, "all")
    names = [split_key(key)[0] for key in kohya_file(family, trained).shapes if key.endswith("lora_up.weight")]
    meant = [f"{row.network.diffusers_prefix}/{row.network.diffusers_path(row.path)}" for row in trained]
    for tool in TOOLS:
        listed: dict[str, str] = {}
        for style in STYLES:
            listed |= answered(family, tool, style)
        assert [listed.get(name) for name in names] == meant


@pytest.mark.parametrize("targets", ["attention", "attention_ff", "all"])
@pytest.mark.parametrize("kind", ["lora", "locon", "dora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_proof_of_what_the_exporter_writes_holds(family: str, kind: str, targets: str) -> None:
    file = kohya_file(family, modules(family, kind, targets))
    proof = prove(file, base(family))
    assert proof.holds
    loads = {tool.tool for tool in proof.tools if tool.loads}
    assert loads == ({"comfyui"} if kind == "dora" else {"diffusers", "sd-scripts", "a1111", "comfyui"})
    assert loads == set(promised_tools(file))
    assert all(tool.num_keys == len(file.shapes) for tool in proof.tools)
