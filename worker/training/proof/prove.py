"""The load proof of one adapter file on one base: every key accounted for in every tool."""

from collections.abc import Mapping
from typing import get_args

from core.domain.proof import MAX_DROPPED, DroppedKey, LoadProof, Tool, ToolProof
from worker.training.proof.files import SUFFIXES, AdapterFile, read_peft_config, split_key
from worker.training.proof.layers import BaseLayers
from worker.training.proof.resolve import resolve_names

TOOLS: tuple[Tool, ...] = get_args(Tool)


def prove(file: AdapterFile, base: BaseLayers) -> LoadProof:
    """By names, shapes and metadata; whether the pictures match is for whoever draws them."""
    return LoadProof(
        format=file.format, family=base.family, tools=tuple(_prove_tool(tool, file, base) for tool in TOOLS)
    )


def _prove_tool(tool: Tool, file: AdapterFile, base: BaseLayers) -> ToolProof:
    landings = resolve_names(tool, file.shapes, base)
    dropped = [DroppedKey(key=key, reason=row.reason) for key, row in landings.items() if row.layer is None]
    offered = tool != "a1111" or a1111_family(file.metadata) in (base.family, None)
    return ToolProof(
        tool=tool,
        required=tool in promised_tools(file),
        loads=bool(landings) and not dropped and _keeps_scale(tool, file),
        offered=offered,
        num_keys=len(landings),
        num_resolved=len(landings) - len(dropped),
        dropped=tuple(dropped[:MAX_DROPPED]),
        notes=tuple(_note(tool, file, base, offered)),
    )


def promised_tools(file: AdapterFile) -> tuple[Tool, ...]:
    """Where such a file can load at all: diffusers' format is for diffusers. Of DoRA in kohya's format, sd-scripts
    and diffusers leave out the magnitudes, and A1111 applies them along the other axis: ComfyUI alone is left."""
    if file.format == "diffusers":
        return ("diffusers",)
    return ("comfyui",) if has_dora(file) else TOOLS


def has_dora(file: AdapterFile) -> bool:
    return any(SUFFIXES.get(split_key(key)[1]) == "magnitude" for key in file.shapes)


def count_without_alpha(file: AdapterFile) -> int:
    """Layers whose alpha no tool can know: none of kohya's tensors, nor diffusers' metadata, says it."""
    if file.format == "diffusers":
        return 0 if _states_alpha(file) else sum(split_key(key)[1] == "lora_A.weight" for key in file.shapes)
    names = {split_key(key)[0] for key in file.shapes if split_key(key)[1] == "lora_down.weight"}
    return sum(f"{name}.alpha" not in file.shapes for name in names)


def _states_alpha(file: AdapterFile) -> bool:
    config = read_peft_config(file.metadata)
    parts = {key.partition(".")[0] for key in file.shapes}
    return all(isinstance(config.get(f"{part}.lora_alpha"), int | float) for part in parts)


def _keeps_scale(tool: Tool, file: AdapterFile) -> bool:
    """Without alpha every tool takes it for the rank: whatever was trained with another comes out wrong. A1111
    applies DoRA's magnitudes per output along the inputs."""
    return count_without_alpha(file) == 0 and not (tool == "a1111" and has_dora(file))


def a1111_family(metadata: Mapping[str, str]) -> str | None:
    """The family A1111 files an adapter under, by its metadata alone; None where it has none. It hides what is of
    another family than the loaded base's."""
    if metadata.get("ss_base_model_version", "").startswith("sdxl_"):
        return "sdxl"
    if metadata.get("ss_v2") == "True":
        return "sd2"
    return "sd1" if metadata else None


def _note(tool: Tool, file: AdapterFile, base: BaseLayers, offered: bool) -> list[str]:
    notes = []
    if missing := count_without_alpha(file):
        notes.append(f"alpha is missing for {missing} layers: {tool} takes a scale of 1.0")
    if not offered:
        taken = a1111_family(file.metadata)
        wanted = {"sdxl": "ss_base_model_version beginning with sdxl_", "sd2": "ss_v2 = True"}
        needed = wanted.get(base.family, "no metadata of another family")
        notes.append(f"a1111 takes it for {taken} by its metadata and hides it from a {base.family} base: {needed}")
    if has_dora(file) and file.format == "kohya":
        notes.append(_DORA[tool])
    if tool == "sd-scripts" and base.family == "sd2":
        notes.append("sd-scripts reads it on a base in diffusers' folders; from a single file it expects convolutions")
    return notes


_DORA: dict[Tool, str] = {
    "a1111": "a1111 applies DoRA's magnitudes along the inputs: pictures differ from the training's",
    "comfyui": "comfyui divides by the base's norms, not the adapted layer's: pictures differ slightly",
    "sd-scripts": "sd-scripts leaves out DoRA's magnitudes: what remains is a plain LoRA",
    "diffusers": "diffusers leaves out kohya's dora_scale: take the diffusers file there",
}
