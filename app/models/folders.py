"""Which folders on this machine can be registered as base models, and what the others lack."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.domain.captioner import FOLDER as CAPTIONERS
from core.domain.errors import ModelRejected
from core.domain.model import FAMILY_FACTS, PARTS, ModelInfo
from core.model_folders import CARD, read_card

INDEX = "model_index.json"
COMMON_PARTS = tuple(part for part in PARTS if all(part in facts.parts for facts in FAMILY_FACTS.values()))
PARTS_WITH_WEIGHTS = sorted(part for part in PARTS if not part.startswith(("scheduler", "tokenizer")))

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFolder:
    path: Path
    info: ModelInfo


def find_models(*roots: Path) -> list[ModelFolder]:
    """Every usable folder directly below the roots; a later root's model replaces an earlier one's."""
    found = {folder.info.id: folder for root in roots for folder in _list_folders(root)}
    return list(found.values())


def _list_folders(root: Path) -> Iterator[ModelFolder]:
    """Skips an unusable one, so that it does not hide the others."""
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        # A worker makes bases in folders with a dot, and one folder is for captioners.
        if not path.is_dir() or path.name.startswith(".") or path.name == CAPTIONERS:
            continue
        try:
            yield open_model(path)
        except ModelRejected as error:
            logger.warning("the folder %s is not registered: %s", path, error.detail)


def open_model(path: Path) -> ModelFolder:
    """Raises ModelRejected, saying what is missing."""
    missing = list(_list_missing(path))
    if missing:
        raise ModelRejected(
            f"{path.name} cannot be registered as a base; it lacks: {', '.join(missing)}. "
            "Give a folder in diffusers' layout, with safetensors weights and a card."
        )
    return ModelFolder(path.resolve(), read_card(path))


def has_card(path: Path) -> bool:
    return (path / CARD).is_file()


def _list_missing(path: Path) -> Iterator[str]:
    yield from (name for name in (INDEX, CARD) if not (path / name).is_file())
    parts = sorted({*COMMON_PARTS, *_list_parts(path)})
    yield from (f"{part}/" for part in parts if not (path / part).is_dir())
    for part in PARTS_WITH_WEIGHTS:
        if (path / part).is_dir() and not any((path / part).glob("*.safetensors")):
            yield f"{part}/*.safetensors"


def _list_parts(path: Path) -> Iterator[str]:
    """Those that only some families have, such as a second text encoder, if the index names them."""
    try:
        index = json.loads((path / INDEX).read_text())
    except (OSError, ValueError):
        return
    if isinstance(index, dict):
        yield from (part for part in PARTS if part not in COMMON_PARTS and index.get(part, [None])[0])
