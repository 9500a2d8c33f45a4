"""The result for every key of a file in each tool: the layer it reaches, or why it is dropped."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from core.domain.proof import Tool
from worker.engine.adapter_files.proof.files import (
    DIFFUSERS_SUFFIXES,
    DOTTED,
    KOHYA_SUFFIXES,
    PEFT_SUFFIXES,
    Role,
    role_of,
    split_key,
)
from worker.engine.adapter_files.proof.layers import BaseLayers, Layer, Shape
from worker.engine.adapter_files.proof.layout import why_not_opened
from worker.engine.adapter_files.proof.names import list_names
from worker.engine.adapter_files.proof.spellings import Spellings
from worker.engine.families.registry import FAMILIES

Group = dict[Role, str]
"""One layer's tensors in a file: role ("down", "up", "alpha", …) -> key."""


@dataclass(frozen=True)
class Resolution:
    """``layer`` is None if the key is dropped, and then ``reason`` says why. ``misplaced``: the layer is not the key's
    own, and ``reason`` names both."""

    layer: Layer | None
    reason: str = ""
    misplaced: bool = False


_READ: dict[Tool, set[str]] = {
    "sd-scripts": {"lora_down.weight", "lora_up.weight", "alpha"},
    "a1111": set(KOHYA_SUFFIXES),
    "comfyui": set(KOHYA_SUFFIXES) | {"lora_A.weight", "lora_B.weight"} | set(DIFFUSERS_SUFFIXES),
    "diffusers": {"lora_down.weight", "lora_up.weight", "alpha"} | set(PEFT_SUFFIXES) | set(DIFFUSERS_SUFFIXES),
}


def resolve_names(tool: Tool, shapes: Mapping[str, Shape], base: BaseLayers) -> dict[str, Resolution]:
    """One result for every key, in the file's order. ``shapes``: key -> the tensor's shape."""
    names = list_names(tool, base)
    mixed = tool == "diffusers" and any(_is_renamed(key) for key in shapes)
    landings = {key: _land(tool, key, names, mixed=mixed) for key in shapes}
    for name, group in _group(landings).items():
        reason = _find_fault(tool, group, shapes, base.shapes[names[name]])
        if reason:
            landings |= {key: Resolution(None, reason) for key in group.values()}
    landings |= _find_doubles(landings)
    landings |= _find_partial_qkv(tool, base, landings)
    if refusal := why_not_opened(tool, base) or _find_refusal(tool, landings):
        return dict.fromkeys(landings, Resolution(None, refusal))
    return landings | _find_misplaced(tool, base, landings)


def _land(tool: Tool, key: str, names: Mapping[str, Layer], *, mixed: bool) -> Resolution:
    name, suffix = split_key(key)
    if mixed and _is_original(name):
        return Resolution(None, "diffusers drops the sgm names of a file that has diffusers' names too")
    if name not in names:
        return Resolution(None, _explain_name(tool, name))
    if suffix not in _READ[tool]:
        return Resolution(None, f"{tool} does not read {suffix or 'a key without a tensor name'}")
    return Resolution(names[name])


def _is_original(name: str) -> bool:
    return any(part in name for part in ("input_blocks", "middle_block", "output_blocks"))


def _is_renamed(name: str) -> bool:
    return any(part in name for part in ("down_blocks", "mid_block", "up_blocks"))


def _explain_name(tool: Tool, name: str) -> str:
    if name.startswith(DOTTED) and tool == "comfyui" and ".attn" in name:
        return "comfyui knows attention by diffusers' old names alone (attn1.processor.to_q): it loads without it"
    if name.startswith(DOTTED) and tool in ("sd-scripts", "a1111"):
        return f"{tool} reads no diffusers files"
    return f"{tool} finds no layer of this base by the name {name}"


def _group(landings: Mapping[str, Resolution]) -> dict[str, Group]:
    groups: dict[str, Group] = defaultdict(dict)
    for key, landing in landings.items():
        name, suffix = split_key(key)
        if landing.layer is not None and (role := role_of(suffix)):
            groups[name][role] = key
    return groups


def _find_fault(tool: Tool, group: Group, shapes: Mapping[str, Shape], layer: Shape) -> str:
    """Why this layer's tensors do nothing or break the file; empty if all is well."""
    halves: tuple[Role, ...] = ("down", "up")
    missing = [half for half in halves if half not in group]
    if missing:
        return f"{_REFUSES if _breaks(tool, group) else ''}the layer has no lora_{' and no lora_'.join(missing)} weight"
    shape = {role: shapes[key] for role, key in group.items()}
    strict = tool in ("sd-scripts", "diffusers")
    if fits(shape, layer, strict=strict):
        return ""
    mismatch = f"down {list(shape['down'])} and up {list(shape['up'])} do not fit the layer's {list(layer)}"
    return f"{_REFUSES if strict else ''}{mismatch}"


_REFUSES = "the whole file is refused: "


def _breaks(tool: Tool, group: Group) -> bool:
    """Half a layer: A1111 and diffusers raise; ComfyUI only if it finds an up and looks for its down."""
    return tool in ("a1111", "diffusers") or (tool == "comfyui" and "up" in group)


def fits(shape: Mapping[Role, Shape], layer: Shape, *, strict: bool) -> bool:
    """Whether up @ down has the layer's shape. A1111 and ComfyUI reshape, so a Linear may stand for a 1x1 convolution;
    sd-scripts and diffusers require the same number of dimensions. Magnitudes: one per output (or, in LyCORIS' older
    files, one per input)."""
    down, up = shape["down"], shape["up"]
    if not down or not up or min(*down, *up) < 1 or len(up) < 2 or len(down) < 2:
        return False
    rank, mid = down[0], shape.get("mid")
    kernel = prod(mid[2:]) if mid and len(mid) == 4 else 1
    sized = up[0] == layer[0] and prod(up[1:]) == rank and prod(down[1:]) * kernel == prod(layer[1:])
    if strict and sized:
        sized = (up, down) == ((layer[0], rank, *[1] * len(layer[2:])), (rank, *layer[1:]))
    magnitude = shape.get("magnitude")
    return sized and (magnitude is None or prod(magnitude) in (layer[0], layer[1]))


def _find_doubles(landings: Mapping[str, Resolution]) -> dict[str, Resolution]:
    """Of two names for one layer, one is lost in every tool: which one depends on the tool, so both are mismatch."""
    owners: dict[Layer, set[str]] = defaultdict(set)
    for key, landing in landings.items():
        if landing.layer is not None:
            owners[landing.layer].add(split_key(key)[0])
    return {
        key: Resolution(None, f"{' and '.join(sorted(owners[landing.layer]))} are one layer: one of the two is lost")
        for key, landing in landings.items()
        if landing.layer is not None and len(owners[landing.layer]) > 1
    }


def _find_partial_qkv(tool: Tool, base: BaseLayers, landings: Mapping[str, Resolution]) -> dict[str, Resolution]:
    """In A1111, OpenCLIP's query, key and value are one matrix, which it changes only if all four layers of the
    attention are in the file."""
    openclip = base.rules.fused_qkv
    if tool != "a1111" or openclip is None:
        return {}
    held: dict[str, set[str]] = defaultdict(set)
    for landing in landings.values():
        if landing.layer and landing.layer.part == openclip and ".self_attn." in landing.layer.path:
            attention, _, projection = landing.layer.path.rpartition(".")
            held[attention].add(projection)
    reason = "a1111 changes this attention only with its q, k, v and out projections all in the file"
    return {
        key: Resolution(None, reason)
        for key, landing in landings.items()
        if landing.layer
        and landing.layer.part == openclip
        and len(held.get(landing.layer.path.rpartition(".")[0], "four")) < 4
    }


def _find_misplaced(tool: Tool, base: BaseLayers, landings: Mapping[str, Resolution]) -> dict[str, Resolution]:
    """Keys whose tensors fit the layer that the tool applies them to, although it is not their own."""
    spellings = Spellings(base)
    moved: dict[str, Resolution] = {}
    for key, landing in landings.items():
        meant = spellings.find(split_key(key)[0])
        if landing.layer and meant and landing.layer != meant:
            reason = f"{tool} puts it on {landing.layer.path}, another layer than {meant.path}"
            moved[key] = Resolution(landing.layer, reason, misplaced=True)
    return moved


_FLAT = tuple(
    {"lora_unet_", *(f"{name}_" for spec in FAMILIES.values() for name in spec.tools.text_names["diffusers"])}
)
"""The prefixes by which diffusers takes a key for kohya's."""


def _find_refusal(tool: Tool, landings: Mapping[str, Resolution]) -> str:
    """Why nothing at all of the file is loaded, if that is so."""
    for key, landing in landings.items():
        if landing.reason.startswith(_REFUSES):
            return f"{landing.reason} ({key})"
    if tool != "diffusers":
        return ""
    flat = all(key.startswith(_FLAT) for key in landings)
    strange = [key for key in landings if split_key(key)[1] not in _READ["sd-scripts"] | {"dora_scale"}]
    if flat and strange:
        return f"{_REFUSES}diffusers cannot rename {strange[0]}"
    if not flat and any(key.startswith("lora_") for key in landings):
        return f"{_REFUSES}diffusers reads kohya's keys only if there are no others"
    return ""
