"""Which of a file's tensors belong to which of a base's layers; the others are ignored, with the reason."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from core.domain.adapter_import import MAX_IGNORED, IgnoredKey
from worker.engine.adapter_files.proof.files import AdapterFile, role_of, split_key
from worker.engine.adapter_files.proof.identify import identify
from worker.engine.adapter_files.proof.kinds import explain_key
from worker.engine.adapter_files.proof.layers import TEXT_PROJECTION, BaseLayers, Layer
from worker.engine.adapter_files.proof.resolve import Group, fits
from worker.engine.adapter_files.proof.spellings import Spellings, is_original
from worker.engine.errors import BadInput


@dataclass(frozen=True)
class Fit:
    """``groups``: the used tensors, by layer. ``ignored``: key -> the reason."""

    groups: Mapping[Layer, Group]
    ignored: Mapping[str, str]

    def list_ignored(self) -> tuple[IgnoredKey, ...]:
        """The first of them, sorted."""
        return tuple(IgnoredKey(key=key, reason=self.ignored[key]) for key in sorted(self.ignored)[:MAX_IGNORED])


def fit(file: AdapterFile, base: BaseLayers) -> Fit:
    """Raises BadInput for a file that is not a LoRA or is for another family, if nothing fits, and if a layer's tensors
    have other shapes than the layer."""
    kind = identify(file)
    if kind.family not in (base.family, "unknown"):
        raise BadInput(f"the file is for {kind.family} ({kind.evidence}); the base is {base.family}")
    ignored: dict[str, str] = {}
    groups = _choose(_group(file, base, ignored), ignored)
    for name, why in _list_misfits(file, base, groups):
        raise BadInput(f"the file does not fit the base: {name} {why}")
    if not groups:
        raise BadInput(_explain_nothing(ignored))
    return Fit({layer: group for layer, (_, group) in groups.items()}, ignored)


def check_fits(file: AdapterFile, base: BaseLayers) -> str | None:
    """Why the file cannot be used on the base; None if it can."""
    try:
        fit(file, base)
    except BadInput as error:
        return str(error)
    return None


def _group(file: AdapterFile, base: BaseLayers, ignored: dict[str, str]) -> dict[Layer, dict[str, Group]]:
    """Layer -> name in the file -> its tensors."""
    spellings = Spellings(base)
    found: dict[Layer, dict[str, Group]] = {}
    for key in file.shapes:
        name, suffix = split_key(key)
        role, layer = role_of(suffix), spellings.find(name)
        if role is None:
            ignored[key] = explain_key(key)
        elif layer is None:
            ignored[key] = "belongs to a layer that the base does not have"
        elif layer.path == TEXT_PROJECTION:
            ignored[key] = "changes the text projection of a text encoder, which most tools do not read"
        elif (group := found.setdefault(layer, {}).setdefault(name, {})).setdefault(role, key) != key:
            ignored[key] = f"is the same part of the layer as {group[role]}, which is used"
    return found


def _choose(found: Mapping[Layer, Mapping[str, Group]], ignored: dict[str, str]) -> dict[Layer, tuple[str, Group]]:
    """One name for each layer. Of two, diffusers' names precede the original code's, as in diffusers'
    ``_maybe_map_sgm_blocks_to_diffusers``."""
    chosen: dict[Layer, tuple[str, Group]] = {}
    for layer, named in found.items():
        for name in sorted(named, key=lambda name: (not _is_whole(named[name]), is_original(name))):
            group = named[name]
            if not _is_whole(group):
                ignored |= dict.fromkeys(group.values(), "belongs to a layer for which the file has no pair of halves")
            elif layer in chosen:
                ignored |= dict.fromkeys(group.values(), f"changes the same layer as {chosen[layer][0]}, which is used")
            else:
                chosen[layer] = name, group
    return chosen


def _is_whole(group: Group) -> bool:
    return "down" in group and "up" in group


def find_misfits(file: AdapterFile, base: BaseLayers) -> list[tuple[str, str]]:
    """The layers of a file whose shapes are not the base's: their names in the file, and the shapes of both."""
    groups = _choose(_group(file, base, {}), {})
    return list(_list_misfits(file, base, groups))


def _list_misfits(
    file: AdapterFile, base: BaseLayers, groups: Mapping[Layer, tuple[str, Group]]
) -> Iterator[tuple[str, str]]:
    for layer, (name, group) in groups.items():
        shape, wanted = {role: file.shapes[key] for role, key in group.items()}, base.shapes[layer]
        if not fits(shape, wanted, strict=False):
            yield name, f"has halves of {shape['down']} and {shape['up']}, the base's layer is {wanted}"


def _explain_nothing(ignored: Mapping[str, str]) -> str:
    key = next(iter(ignored))
    several = f"none of the file's {len(ignored)} tensors fits the base"
    subject = several if len(ignored) > 1 else "the file's only tensor does not fit the base"
    return f"{subject}: {key} {ignored[key]}"
