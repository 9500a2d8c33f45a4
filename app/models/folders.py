"""Base models as folders: which are there, what their cards say, and whether they are whole."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from core.domain.errors import ModelRejected
from core.domain.model import ModelInfo

BUNDLED_MODELS = Path(__file__).resolve().parents[2] / "models"
CARD_NAME = "atelier.json"
PARTS_WITH_WEIGHTS = ("text_encoder", "unet", "vae")
PARTS = ("scheduler", "tokenizer", *PARTS_WITH_WEIGHTS)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFolder:
    path: Path
    info: ModelInfo


def find_models(*roots: Path) -> list[ModelFolder]:
    """Every usable folder directly below the roots; a later root's model stands over an earlier one's."""
    found = {folder.info.id: folder for root in roots for folder in _list_folders(root)}
    return list(found.values())


def _list_folders(root: Path) -> Iterator[ModelFolder]:
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if not (path / "model_index.json").is_file():
            continue
        try:
            yield open_model(path)
        except ModelRejected as error:
            logger.warning("the model in %s is left out: %s", path, error.detail)


def open_model(path: Path) -> ModelFolder:
    """Raises ModelRejected, saying what is missing."""
    missing = list(_list_missing(path))
    if missing:
        raise ModelRejected(
            f"{path.name} is no base that can be registered; it lacks: {', '.join(missing)}. "
            "Give a folder in diffusers' layout with safetensors weights and an atelier.json."
        )
    return ModelFolder(path.resolve(), _read_card(path / CARD_NAME))


def _list_missing(path: Path) -> Iterator[str]:
    yield from (name for name in ("model_index.json", CARD_NAME) if not (path / name).is_file())
    yield from (f"{part}/" for part in PARTS if not (path / part).is_dir())
    for part in PARTS_WITH_WEIGHTS:
        if (path / part).is_dir() and not any((path / part).glob("*.safetensors")):
            yield f"{part}/*.safetensors"


def _read_card(card: Path) -> ModelInfo:
    try:
        return ModelInfo.model_validate_json(card.read_bytes())
    except (OSError, ValidationError) as error:
        reason = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else error
        raise ModelRejected(f"{card.parent.name}/{CARD_NAME} cannot be read: {reason}.") from error
