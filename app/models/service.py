"""Registers base models and reads them."""

import re
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.orm import Session

from app.models.folders import ModelFolder, has_card, open_model
from app.models.schemas import ModelRegistration
from core.db import models
from core.db.tables import Model
from core.domain.errors import ModelRejected
from core.domain.registration import ID_PATTERN, ModelSource

SINGLE_FILE = ".safetensors"


def register_all(session: Session, folders: Sequence[ModelFolder]) -> None:
    """All but those that a worker is preparing anew: its folder replaces the one that was found."""
    for folder in folders:
        models.upsert_found(session, folder.info, location=str(folder.path))


def register(session: Session, folder: ModelFolder) -> Model:
    return models.upsert_model(session, folder.info, location=str(folder.path))


def request(session: Session, model_id: str, source: ModelSource) -> Model:
    return models.request_model(session, model_id, source)


def open_below(models_path: Path, body: ModelRegistration) -> ModelFolder | None:
    """What lies at the path if it was prepared before; None for what a worker has to prepare.

    Raises ModelRejected for a path outside the operator's directory (links followed), and for what nobody could use.
    """
    assert body.path is not None
    root = models_path.resolve()
    found = (root / body.path).resolve()
    if found == root or not found.is_relative_to(root):
        raise ModelRejected("The path must lie below the operator's models directory.", {"/path": ["lies outside"]})
    if found.is_dir():
        return _open_prepared(found, body.id)
    if not found.is_file():
        raise ModelRejected(f"There is no {body.path} in the models directory.", {"/path": ["is not there"]})
    _refuse_other_files(found.name)
    return None


def _open_prepared(folder: Path, wanted_id: str | None) -> ModelFolder | None:
    """None also where the card says another id than is wanted: it has to be written anew."""
    if not has_card(folder):
        return None
    prepared = open_model(folder)
    return prepared if wanted_id in {None, prepared.info.id} else None


def _refuse_other_files(name: str) -> None:
    if not name.lower().endswith(SINGLE_FILE):
        raise ModelRejected(
            f"{name} is no {SINGLE_FILE} file. Formats that can run code when they are opened (.ckpt, .pt, .bin) are "
            f"not read: get the model as {SINGLE_FILE}, or convert it on a machine that you can afford to lose.",
            {"/path": [f"must end in {SINGLE_FILE}"]},
        )


def choose_id(body: ModelRegistration) -> str:
    """The one that was asked for, or the last part of path or Hub id in lower case. Raises ModelRejected."""
    if body.id is not None:
        return body.id
    name = (body.path or body.hub_id or "").rstrip("/").rpartition("/")[2].removesuffix(SINGLE_FILE)
    model_id = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:64]
    if not re.match(ID_PATTERN, model_id):
        raise ModelRejected(f"No id can be made of {name!r}: give one.", {"/id": ["is needed"]})
    return model_id
