"""Information in the folders and names of a set, in the layouts of other trainers.

- kohya's sd-scripts (``generate_dreambooth_subsets_config_by_subdirs`` in library/config_util.py): images in the folder
``10_blip toy`` are trained ten times in an epoch, and "blip toy" is the caption of those without one.
- Its regularisation images, in ``reg/`` beside ``img/`` as its guides lay them out.
- Masks: ``x.mask.png``; OneTrainer's ``x-masklabel.png``; kohya's folder of masks with the images' names
(``conditioning_data_dir``), recognized by its name: ``mask``, ``masks`` or ``blip_mask``.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from core.domain.counts import counted
from core.domain.dataset import Role, is_archive_name, stem_of

MAX_REPEATS = 1000
"""A larger number is a year, or another number at the start of a folder's name."""
MAX_NOTES = 100
MASK_SUFFIXES = (".mask", "-masklabel")
CONDITION_SUFFIX = "-condlabel"
REG_FOLDERS = frozenset(
    {"reg", "regs", "reg_images", "regularization", "regularisation"}
    | {"regularization_images", "regularisation_images"}
)
MASK_ALONE = "It is a mask by its name, but no image matches it."
MASK_TWICE = "Its image has another mask."
CONDITION = "It is a conditioning image of OneTrainer by its name (-condlabel), which Atelier does not use."
NO_REPEATS = "Its folder has 0 repeats, which in kohya's layout means that it is not trained."
_REPEATS = re.compile(r"^(?![1-9]\d\d[A-Z0-9_]{5}$)(\d{1,9})_(.+)$")
"""Excludes cameras' folder names, such as 100_PANA (JEITA CP-3461, DCF)."""
_MASK_FOLDER = re.compile(r"^(?:(.+)[_-])?masks?$", re.IGNORECASE)
Path = tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """The information in an image's folders."""

    role: Role = "subject"
    repeats: int = 1
    class_text: str | None = None


@dataclass(frozen=True)
class Layout:
    """``masks``: image -> its mask; ``left_out``: file -> why; ``notes`` describe the recognized layout."""

    places: dict[str, Place]
    masks: dict[str, str]
    left_out: dict[str, str]
    notes: list[str]

    @property
    def images(self) -> list[str]:
        return list(self.places)


def read_layout(pictures: Iterable[str]) -> Layout:
    """``pictures``: the names of all image files, including masks."""
    names = list(pictures)
    left_out = {name: CONDITION for name in names if _ending(name, (CONDITION_SUFFIX,))}
    named_masks = [name for name in names if _ending(name, MASK_SUFFIXES)]
    rest = [name for name in names if name not in left_out and not _ending(name, MASK_SUFFIXES)]
    masks, alone = _pair_named_masks(rest, named_masks)
    from_folders, alone_in_folders = _pair_mask_folders(rest)
    masks = from_folders | masks
    doubled = [
        from_folders[image] for image in from_folders.keys() & masks.keys() if from_folders[image] != masks[image]
    ]
    left_out |= dict.fromkeys([*alone, *alone_in_folders], MASK_ALONE) | dict.fromkeys(doubled, MASK_TWICE)
    no_images = {*from_folders.values(), *alone_in_folders}
    places = {name: read_place(name) for name in rest if name not in no_images}
    for image in [name for name, place in places.items() if place.repeats == 0]:
        del places[image]
        left_out |= dict.fromkeys(filter(None, (image, masks.pop(image, None))), NO_REPEATS)
    return Layout(places, masks, left_out, [*_describe_folders(places), *_describe_masks(masks)])


# --- kohya's folders -------------------------------------------------------------------------------------


def read_place(name: str) -> Place:
    """The nearest folder with repeats counts; an image in a folder without any is trained once."""
    folders = _folders_of(name)
    role: Role = "class" if any(folder.lower() in REG_FOLDERS for folder in folders) else "subject"
    for folder in reversed(folders):
        match = _REPEATS.match(folder)
        if match and int(match[1]) <= MAX_REPEATS:
            return Place(role, int(match[1]), match[2].strip() or None)
    return Place(role)


def _folders_of(name: str) -> list[str]:
    """An archive that was sent with others counts as a folder."""
    return [_without_archive_suffix(part) for part in PurePosixPath(name).parts[:-1]]


def _without_archive_suffix(part: str) -> str:
    return re.sub(r"(\.tar)?\.\w+$", "", part) if is_archive_name(part) else part


def _describe_folders(places: Mapping[str, Place]) -> list[str]:
    groups: dict[tuple[str, Place], int] = defaultdict(int)
    for name, place in places.items():
        groups[str(PurePosixPath(name).parent), place] += 1
    notes = [_describe(folder, place, groups[folder, place]) for folder, place in sorted(groups, key=lambda g: g[0])]
    odd = {folder for name in places for folder in _folders_of(name) if _is_odd(folder)}
    notes += [
        f'"{folder}" is not read in kohya\'s layout: more than {MAX_REPEATS:,} repeats are implausible.'
        for folder in sorted(odd)
    ]
    return [note for note in notes if note][:MAX_NOTES]


def _is_odd(folder: str) -> bool:
    match = _REPEATS.match(folder)
    return match is not None and int(match[1]) > MAX_REPEATS


def _describe(folder: str, place: Place, number: int) -> str:
    images = counted(number, "image")
    said = []
    if place.repeats > 1 or place.class_text:
        said.append(f"{counted(place.repeats, 'repeat')} each")
    if place.class_text:
        said.append(f'"{place.class_text}" as the caption of those without one')
    details = f" ({'; '.join(said)})" if said else ""
    if place.role == "class":
        return (
            f'"{folder}" has {images} for regularisation{details}: not trained as the subject, but used as the '
            "class images of prior preservation."
        )
    return f'"{folder}" is read in kohya\'s layout: {images}{details}.' if said else ""


# --- masks -----------------------------------------------------------------------------------------------


def _ending(name: str, suffixes: Sequence[str]) -> str | None:
    stem = PurePosixPath(name).stem.lower()
    return next((suffix for suffix in suffixes if stem.endswith(suffix)), None)


def _pair_named_masks(images: Iterable[str], masks: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Image -> its mask, and the masks without an image."""
    stems = {stem_of(name): name for name in images}
    paired: dict[str, str] = {}
    alone: list[str] = []
    for mask in masks:
        suffix = _ending(mask, MASK_SUFFIXES) or ""
        image = stems.get(stem_of(mask)[: -len(suffix)])
        if image is None or image in paired:
            alone.append(mask)
        else:
            paired[image] = mask
    return paired, alone


def _pair_mask_folders(pictures: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Image -> its mask from a folder of masks, and the files that remain in such folders. A folder without any name of
    an image is not a folder of masks, but a set of images of masks."""
    inside = {name: at for name in pictures if (at := _find_mask_folder(name)) is not None}
    index = _index([name for name in pictures if name not in inside])
    paired: dict[str, str] = {}
    used: set[Path] = set()
    for mask, at in inside.items():
        image = _find_masked(index, mask, at)
        if image is not None and image not in paired:
            paired[image] = mask
            used.add(_path_of(mask)[: at + 1])
    taken = set(paired.values())
    alone = [mask for mask, at in inside.items() if mask not in taken and _path_of(mask)[: at + 1] in used]
    return paired, alone


def _find_mask_folder(name: str) -> int | None:
    folders = _folders_of(name)
    return next((at for at in reversed(range(len(folders))) if _MASK_FOLDER.match(folders[at])), None)


def _path_of(name: str) -> Path:
    """Folders and stem."""
    return (*_folders_of(name), PurePosixPath(name).stem)


def _index(images: Iterable[str]) -> dict[tuple[int | None, Path], list[str]]:
    """By the whole path, by the path without one of its folders (whose depth is kept), and by the last name."""
    found: dict[tuple[int | None, Path], list[str]] = defaultdict(list)
    for image in images:
        path = _path_of(image)
        found[None, path].append(image)
        found[-1, path[-1:]].append(image)
        for at in range(len(path) - 1):
            found[at, (*path[:at], *path[at + 1 :])].append(image)
    return found


def _find_masked(index: Mapping[tuple[int | None, Path], list[str]], mask: str, at: int) -> str | None:
    """The only image of that name: in the folder that the mask folder is named after, in the one above, in one beside
    it, or anywhere."""
    path = _path_of(mask)
    above, rest = path[:at], path[at + 1 :]
    match = _MASK_FOLDER.match(path[at])
    named_after = (*above, match[1], *rest) if match and match[1] else None
    keys = [(None, named_after), (None, (*above, *rest)), (at, (*above, *rest)), (-1, path[-1:])]
    for depth, key in keys:
        found = index.get((depth, key), []) if key else []
        if len(found) == 1:
            return found[0]
    return None


def _describe_masks(masks: Mapping[str, str]) -> list[str]:
    if not masks:
        return []
    shown = next(iter(masks.values()))
    return [f"{len(masks):,} image{'s have masks' if len(masks) > 1 else ' has a mask'} of their own, such as {shown}."]
