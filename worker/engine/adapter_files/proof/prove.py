"""The load proof of one adapter file on one base: the result for every key in every tool."""

from collections.abc import Mapping
from typing import get_args

from core.domain.counts import counted
from core.domain.proof import MAX_DROPPED, DroppedKey, LoadProof, Tool, ToolProof, Verdict
from worker.engine.adapter_files.proof.files import AdapterFile, read_peft_config, role_of, split_key
from worker.engine.adapter_files.proof.layers import BaseLayers, Layer
from worker.engine.adapter_files.proof.layout import is_published, why_not_opened
from worker.engine.adapter_files.proof.measured import TOLERANCE, Loaded
from worker.engine.adapter_files.proof.peft_config import config_of
from worker.engine.adapter_files.proof.resolve import Resolution, resolve_names
from worker.engine.adapter_files.proof.spellings import Spellings, split_prefix
from worker.engine.families.registry import FAMILIES
from worker.engine.families.spec import ToolRules

TOOLS: tuple[Tool, ...] = get_args(Tool)


def prove(file: AdapterFile, base: BaseLayers, loaded: Loaded | None = None) -> LoadProof:
    """By names, shapes and metadata; for diffusers by its loader's result, if that is known."""
    rows = tuple(_prove_tool(tool, file, base, loaded if tool == "diffusers" else None) for tool in TOOLS)
    return LoadProof(format=file.format, family=base.family, tools=rows)


def _prove_tool(tool: Tool, file: AdapterFile, base: BaseLayers, loaded: Loaded | None) -> ToolProof:
    landings = resolve_names(tool, file.shapes, base)
    if loaded:
        landings = _correct(landings, base, loaded)
    lost = [DroppedKey(key=key, reason=row.reason) for key, row in landings.items() if row.layer is None]
    moved = [DroppedKey(key=key, reason=row.reason) for key, row in landings.items() if row.misplaced]
    offered = tool != "a1111" or a1111_family(file.metadata) in (base.family, None)
    opens = not why_not_opened(tool, base)
    return ToolProof(
        tool=tool,
        required=tool in promised_tools(file) and opens and (tool != "a1111" or is_published(base)),
        loads=bool(landings) and not lost and not moved and _keeps_scale(tool, file, base),
        offered=offered,
        opens_base=opens,
        verdict=_judge(tool, file, base, loaded, num_keys=len(landings), num_lost=len(lost), num_moved=len(moved)),
        num_keys=len(landings),
        num_resolved=len(landings) - len(lost) - len(moved),
        num_misplaced=len(moved),
        dropped=tuple([*moved, *lost][:MAX_DROPPED]),
        notes=tuple(_note(tool, file, base, offered)),
        measured=loaded.summarise() if loaded else None,
    )


def _correct(landings: Mapping[str, Resolution], base: BaseLayers, loaded: Loaded) -> dict[str, Resolution]:
    """The loader's result takes precedence over the rules."""
    spellings = Spellings(base)
    found: dict[str, Resolution] = {}
    for key, said in landings.items():
        name, suffix = split_key(key)
        layer = spellings.find(name)
        arrived = layer not in loaded.lost_magnitudes if role_of(suffix) == "magnitude" else True
        if layer and arrived and loaded.is_same(layer):
            found[key] = Resolution(layer)
        else:
            found[key] = Resolution(None, _explain_loss(layer, loaded, said.reason))
    return found


def _explain_loss(layer: Layer | None, loaded: Loaded, by_rule: str) -> str:
    if loaded.failure:
        return f"diffusers gives up the file: {loaded.failure}"
    if by_rule:
        return by_rule
    if layer in loaded.lost_magnitudes:
        return "diffusers' loader ignores the magnitude"
    adds = layer is not None and loaded.differences.get(layer) is not None
    return f"diffusers' loader adds {'another' if adds else 'no'} update to the layer"


def _judge(
    tool: Tool,
    file: AdapterFile,
    base: BaseLayers,
    loaded: Loaded | None,
    *,
    num_keys: int,
    num_lost: int,
    num_moved: int,
) -> Verdict:
    if loaded and any((difference or 0) > TOLERANCE for difference in loaded.differences.values()):
        return "wrong"
    if num_lost == num_keys:
        return "nothing"
    if num_moved or (tool == "a1111" and has_dora(file)):
        return "wrong"
    if num_lost:
        return "partial"
    approximate = count_without_alpha(file, base) or (tool == "comfyui" and has_dora(file))
    return "differs" if approximate else "same"


def promised_tools(file: AdapterFile) -> tuple[Tool, ...]:
    """Whether such a file can load at all: diffusers' format is for diffusers. For DoRA in kohya's format, sd-scripts
    and diffusers ignore the magnitudes, and A1111 applies them along the other axis: only ComfyUI is left."""
    if file.format == "diffusers":
        return ("diffusers",)
    return ("comfyui",) if has_dora(file) else TOOLS


def has_dora(file: AdapterFile) -> bool:
    return any(role_of(split_key(key)[1]) == "magnitude" for key in file.shapes)


def count_without_alpha(file: AdapterFile, base: BaseLayers) -> int:
    """Layers whose alpha no tool can know: neither a tensor of their own nor diffusers' metadata states it."""
    if file.format == "diffusers" and _states_alpha(file, base):
        return 0
    names = {split_key(key)[0] for key in file.shapes if role_of(split_key(key)[1]) == "down"}
    return sum(f"{name}.alpha" not in file.shapes for name in names)


def _states_alpha(file: AdapterFile, base: BaseLayers) -> bool:
    config = read_peft_config(file.metadata)
    parts = {split_prefix(split_key(key)[0])[0] or base.denoiser for key in file.shapes}
    return all(isinstance(config_of(config, part).get("lora_alpha"), int | float) for part in parts)


def _keeps_scale(tool: Tool, file: AdapterFile, base: BaseLayers) -> bool:
    """Without alpha every tool uses the rank: an adapter trained with another alpha comes out wrong. A1111 applies
    DoRA's magnitudes per output along the inputs."""
    return count_without_alpha(file, base) == 0 and not (tool == "a1111" and has_dora(file))


def a1111_family(metadata: Mapping[str, str]) -> str | None:
    """The family under which A1111 lists an adapter, by its metadata alone; None if it has none. A1111 hides adapters
    of another family than the loaded base's."""
    if not metadata:
        return None
    version, rules = metadata.get("ss_base_model_version", ""), {name: spec.tools for name, spec in FAMILIES.items()}
    by_version = (name for name, own in rules.items() if own.a1111_version and version.startswith(own.a1111_version))
    by_v2 = (name for name, own in rules.items() if own.a1111_v2 and metadata.get("ss_v2") == own.a1111_v2)
    others = (name for name, own in rules.items() if not own.a1111_version and not own.a1111_v2)
    return next((name for names in (by_version, by_v2, others) for name in names), None)


def _note(tool: Tool, file: AdapterFile, base: BaseLayers, offered: bool) -> list[str]:
    notes = []
    if missing := count_without_alpha(file, base):
        notes.append(f"alpha is missing for {counted(missing, 'layer')}: {tool} uses a scale of 1.0")
    if not offered:
        taken, needed = a1111_family(file.metadata), _name_a1111_mark(base.rules)
        notes.append(f"a1111 takes it for {taken} by its metadata and hides it from a {base.family} base: {needed}")
    if reason := why_not_opened(tool, base):
        notes.append(reason)
    if tool == "a1111" and not is_published(base):
        notes.append("a1111 opens this base only with a .yaml beside it, and renames layers by the published layout")
    if has_dora(file) and file.format == "kohya":
        notes.append(_DORA[tool])
    if tool in base.rules.notes:
        notes.append(base.rules.notes[tool])
    return notes


def _name_a1111_mark(rules: ToolRules) -> str:
    if rules.a1111_version:
        return f"ss_base_model_version beginning with {rules.a1111_version}"
    return f"ss_v2 = {rules.a1111_v2}" if rules.a1111_v2 else "no metadata of another family"


_DORA: dict[Tool, str] = {
    "a1111": "a1111 applies DoRA's magnitudes along the inputs: its update is wrong, do not use it there",
    "comfyui": "comfyui divides by the base's norms, not the adapted layer's: images differ slightly",
    "sd-scripts": "sd-scripts ignores DoRA's magnitudes: what remains is a plain LoRA",
    "diffusers": "diffusers ignores kohya's dora_scale: use the diffusers file there",
}
