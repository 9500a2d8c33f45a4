"""Where base models lie on this machine: the operator's folder first, then the ones that came with us.

A base is a folder in diffusers' layout with an ``atelier.json`` (core.domain.model.ModelInfo) in it.
"""

import logging
from pathlib import Path

from core.domain.errors import ModelRejected
from core.domain.model import ModelInfo
from core.settings import Settings

log = logging.getLogger("atelier.models")

CARD = "atelier.json"
BUNDLED = Path(__file__).resolve().parent.parent / "models"


class BaseMissing(Exception):
    """This machine does not have a registered base. Another may, or this one in a moment: nobody's input is to blame."""


def list_model_folders(settings: Settings) -> dict[str, Path]:
    """Model id -> folder. An operator's model hides a bundled one of the same id."""
    found: dict[str, Path] = {}
    for root in (BUNDLED, settings.models_path):
        for card in sorted(root.glob(f"[!.]*/{CARD}")):  # those with a dot are being made, or done with
            try:
                found[read_card(card.parent).id] = card.parent
            except ModelRejected as error:  # it must not hide the others
                log.warning("%s is passed over: %s", card.parent, error.detail)
    return found


def read_card(folder: Path) -> ModelInfo:
    """Raises ModelRejected with what is missing or wrong."""
    try:
        return ModelInfo.model_validate_json((folder / CARD).read_text())
    except FileNotFoundError as error:
        raise ModelRejected(f"{folder.name} has no {CARD}, so it was never prepared as a base.") from error
    except ValueError as error:
        raise ModelRejected(f"{folder.name}/{CARD} is not valid: {error}") from error


def find_model_folder(settings: Settings, model_id: str) -> Path:
    """Raises BaseMissing."""
    folder = list_model_folders(settings).get(model_id)
    if folder is None:
        raise BaseMissing(f"This worker has no base model {model_id}.")
    return folder
