"""Registers base models and reads them."""

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.orm import Session

from app.models.folders import ModelFolder, open_model
from core.db import models
from core.db.tables import Model
from core.domain.errors import ModelRejected


def register_all(session: Session, folders: Sequence[ModelFolder]) -> None:
    for folder in folders:
        register(session, folder)


def register(session: Session, folder: ModelFolder) -> Model:
    return models.upsert_model(session, folder.info, location=str(folder.path))


def open_below(models_path: Path, path: str) -> ModelFolder:
    """A model's folder that must lie in the operator's directory, links followed. Raises ModelRejected."""
    root = models_path.resolve()
    folder = (root / path).resolve()
    if folder == root or not folder.is_relative_to(root):
        raise ModelRejected("The folder must lie below the operator's models directory.", {"/path": ["lies outside"]})
    if not folder.is_dir():
        raise ModelRejected(f"There is no folder {path} in the models directory.", {"/path": ["is no folder"]})
    return open_model(folder)
