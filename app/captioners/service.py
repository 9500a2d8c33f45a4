"""Registers and removes captioners."""

from pathlib import Path

from sqlalchemy.orm import Session

from app.captioners.schemas import CaptionerRegistration
from core.db import captioners
from core.db.tables import Captioner
from core.domain.captioner import FOLDER
from core.domain.errors import CaptionerRejected
from core.domain.registration import derive_id
from core.model_folders import is_made_here
from core.settings import Settings


def find_location(models_path: Path, body: CaptionerRegistration) -> str:
    """Its folder, relative to the models directory. Raises CaptionerRejected for a path outside of it (links followed),
    and for one that is not a folder."""
    if body.path is None:
        return f"{FOLDER}/{choose_id(body)}"
    root = models_path.resolve()
    found = (root / body.path).resolve()
    if found == root or not found.is_relative_to(root):
        raise CaptionerRejected(
            f"The path must be below the models directory, {root}: put the folder there.", {"/path": ["lies outside"]}
        )
    if not found.is_dir():
        what = "is a file, and a captioner is a folder" if found.exists() else f"is not in {root}"
        raise CaptionerRejected(
            f"{body.path} {what}: put the captioner's folder there, or correct the path.", {"/path": [what]}
        )
    return body.path


def register(session: Session, body: CaptionerRegistration, location: str) -> Captioner:
    return captioners.request_captioner(session, choose_id(body), body.to_source(), location=location)


def delete(session: Session, settings: Settings, captioner_id: str) -> Path | None:
    """The folder to remove after the commit, if the service fetched it itself. Raises NotFound, WrongState."""
    row = captioners.delete_captioner(session, captioner_id)
    folder = settings.models_path / row.location
    return folder if row.source.get("hub_id") and is_made_here(folder) else None


def choose_id(body: CaptionerRegistration) -> str:
    """The requested id, or one by the folder or repository. Raises CaptionerRejected."""
    source = body.path or body.hub_id or ""
    captioner_id = body.id or derive_id(source)
    if captioner_id is None:
        raise CaptionerRejected(f"No id can be made of {source!r}: give one.", {"/id": ["is needed"]})
    return captioner_id
