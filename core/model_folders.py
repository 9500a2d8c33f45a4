"""Where base models are on this machine: the operator's folder first, then the bundled ones.

A base is a folder in diffusers' layout with an ``atelier.json`` (core.domain.model.ModelInfo) in it.
"""

import logging
from pathlib import Path

from core.domain.errors import ModelRejected
from core.domain.model import ModelInfo
from core.settings import Settings

log = logging.getLogger("atelier.models")

CARD = "atelier.json"
NOTE = "README.md"
MADE_HERE = "Atelier made this folder"
"""The start of the note in a folder that the service fetched or converted itself, and so may remove."""
BUNDLED = Path(__file__).resolve().parent.parent / "models"


class BaseMissing(Exception):
    """This machine lacks a registered base, or has another one under its name. Another machine may have it, or this one
    soon: the input is not to blame."""


def is_where_workers_look(models_path: Path, name: str) -> bool:
    """Whether the folder, or a link to it, is directly below and without a dot. Others never contain a base."""
    folder = models_path / name
    return folder.parent.resolve() == models_path.resolve() and not folder.name.startswith(".")


def is_bundled(model_id: str) -> bool:
    """Whether a base of this id is bundled."""
    return model_id in {read_card(card.parent).id for card in BUNDLED.glob(f"[!.]*/{CARD}")}


def is_made_here(folder: Path) -> bool:
    """Whether the service made it; an operator's own folder must not be lost."""
    try:
        return (folder / NOTE).read_text().startswith(MADE_HERE)
    except (OSError, UnicodeDecodeError):
        return False


def read_card(folder: Path) -> ModelInfo:
    """Raises ModelRejected with the fault."""
    try:
        return ModelInfo.model_validate_json((folder / CARD).read_text())
    except FileNotFoundError as error:
        raise ModelRejected(f"{folder.name} has no {CARD}: it was never prepared as a base model.") from error
    except ValueError as error:
        raise ModelRejected(f"{folder.name}/{CARD} is not valid: {error}") from error


def find_model_folder(settings: Settings, model_id: str) -> Path:
    """Raises BaseMissing."""
    return _find(settings, model_id)[0]


def find_planned_folder(settings: Settings, registered: ModelInfo, planned_sha256: str) -> Path:
    """The folder of the base that something was planned for. Raises ModelRejected if ``registered`` has been replaced,
    and BaseMissing if only this machine has another one: its copy is old, or is just being exchanged."""
    folder, card = _find(settings, registered.id)
    if card.sha256 == planned_sha256:
        return folder
    if registered.sha256 == planned_sha256:
        raise BaseMissing(f"This worker's base model {registered.id} is not the registered one.")
    raise ModelRejected(f"The base model {registered.id} was replaced after this was planned: submit it again.")


def _find(settings: Settings, model_id: str) -> tuple[Path, ModelInfo]:
    found = _read_cards(settings).get(model_id)
    if found is None:
        raise BaseMissing(f"This worker has no base model {model_id}.")
    return found


def _read_cards(settings: Settings) -> dict[str, tuple[Path, ModelInfo]]:
    found: dict[str, tuple[Path, ModelInfo]] = {}
    for root in (BUNDLED, settings.models_path):
        for path in sorted(root.glob(f"[!.]*/{CARD}")):  # those with a dot are unfinished or discarded
            try:
                card = read_card(path.parent)
                found[card.id] = path.parent, card
            except ModelRejected as error:  # it must not hide the others
                log.warning("%s is ignored: %s", path.parent, error.detail)
    return found
