"""Removes a base model, and the folder that the service itself fetched or converted for it."""

import logging
import shutil
from pathlib import Path

from sqlalchemy.orm import Session

from core.db import models
from core.domain.errors import WrongState
from core.model_folders import BaseMissing, find_model_folder, is_bundled, is_made_here
from core.settings import Settings

logger = logging.getLogger(__name__)


def delete(session: Session, settings: Settings, model_id: str) -> Path | None:
    """The folder to remove after the commit, if there is one. An operator's own folder stays, and the next start does
    not register it again.

    Raises NotFound, and WrongState for a bundled base and for one in use.
    """
    models.get_model(session, model_id)
    if is_bundled(model_id):
        raise WrongState(f"The model {model_id} comes with the service and cannot be deleted.")
    folder = find_folder(settings, model_id)
    made_here = folder is not None and is_made_here(folder)
    models.delete_model(session, model_id, keep_away=folder is not None)
    return folder if made_here else None


def find_folder(settings: Settings, model_id: str) -> Path | None:
    """On this machine. A rejected model may also have one, from before."""
    try:
        return find_model_folder(settings, model_id)
    except BaseMissing:
        return None


def remove_folder(folder: Path) -> None:
    """Hides the folder from workers in one step, then deletes it. A failure is only logged: the model is gone."""
    aside = folder.with_name(f".{folder.name}.removed")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        shutil.rmtree(aside)
    except OSError as error:
        logger.warning("the folder %s of a deleted model could not be removed: %s", folder, error)
