"""Registers and reads base models."""

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.orm import Session

from app.models.folders import ModelFolder, has_card, open_model
from app.models.schemas import ModelRegistration
from core.db import models
from core.db.tables import Model
from core.domain.errors import ModelRejected
from core.domain.registration import derive_id
from core.model_folders import is_where_workers_look

SINGLE_FILE = ".safetensors"


def register_all(session: Session, folders: Sequence[ModelFolder]) -> None:
    """All but those that a worker is preparing again: its folder replaces the one that was found."""
    for folder in folders:
        models.upsert_found(session, folder.info, location=str(folder.path))


def register(session: Session, body: ModelRegistration, folder: ModelFolder | None) -> Model:
    """Ready at once if the prepared ``folder`` has the requested id; `checking` if a worker has to prepare it, or to
    write its card again. Raises ModelRejected."""
    if folder is not None:
        if body.id in {None, folder.info.id}:
            return models.upsert_model(session, folder.info, location=str(folder.path))
        _refuse_to_rename(session, folder)
    return models.request_model(session, choose_id(body), body.to_source())


def _refuse_to_rename(session: Session, folder: ModelFolder) -> None:
    """A folder has one card: with another id in it, workers would not find the registered model any more."""
    model_id, name = folder.info.id, folder.path.name
    if models.is_registered_from(session, model_id, folder.path, folder.info.sha256):
        raise ModelRejected(
            f"The folder {name} is the registered model {model_id}, which would be lost under another id. Register it "
            f"as {model_id}, or copy the folder and register the copy.",
            {"/id": [f"must be {model_id}"]},
        )


def open_below(models_path: Path, body: ModelRegistration) -> ModelFolder | None:
    """The prepared folder at the path; None if it has no card.

    Raises ModelRejected for a path outside the operator's directory (links followed), and for an unusable file.
    """
    assert body.path is not None
    root = models_path.resolve()
    found = (root / body.path).resolve()
    if found == root or not found.is_relative_to(root):
        raise ModelRejected(
            f"The path must be below the models directory, {root}: put the folder or file there.",
            {"/path": ["lies outside"]},
        )
    if found.is_dir():
        _refuse_out_of_sight(root, body.path)
        return open_model(found) if has_card(found) else None
    if not found.is_file():
        raise ModelRejected(
            f"The models directory, {root}, has no {body.path}: put the folder or file there, or correct the path.",
            {"/path": [f"is not in {root}"]},
        )
    _refuse_other_files(found.name)
    return None


def _refuse_out_of_sight(root: Path, name: str) -> None:
    if not is_where_workers_look(root, name):
        raise ModelRejected(
            f"Workers look for bases in folders directly in the models directory, whose names do not begin with a dot: "
            f"move {name} there, or make a link to it there, and register that.",
            {"/path": ["must be directly in the models directory, and not begin with a dot"]},
        )


def _refuse_other_files(name: str) -> None:
    if not name.lower().endswith(SINGLE_FILE):
        raise ModelRejected(
            f"{name} is not a {SINGLE_FILE} file. Formats that can run code when opened (.ckpt, .pt, .bin) are not "
            f"read: get the model as {SINGLE_FILE}, or convert it on a machine that you can afford to lose.",
            {"/path": [f"must end in {SINGLE_FILE}"]},
        )


def choose_id(body: ModelRegistration) -> str:
    """The requested id, or the last part of path or Hub id in lower case. Raises ModelRejected."""
    if body.id is not None:
        return body.id
    source = (body.path or body.hub_id or "").removesuffix(SINGLE_FILE)
    model_id = derive_id(source)
    if model_id is None:
        raise ModelRejected(f"No id can be made of {source!r}: give one.", {"/id": ["is needed"]})
    return model_id
