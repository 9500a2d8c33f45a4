"""Registered base models. They belong to the operator and are the same for every tenant.

A model without a card is `checking` until a worker has prepared it. The worker holds an advisory lock meanwhile, over
the connection by which it also commits: who loses the connection has lost the lock, and can commit no more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, func, null, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db import audit
from core.db.tables import Model
from core.domain.audit import Action
from core.domain.errors import ModelRejected, NotFound, WrongState
from core.domain.model import ModelInfo, ModelStatus
from core.domain.registration import ModelSource

_LOCKS = 0x6D64  # the first of the two numbers of our advisory locks; the second is the model's


@dataclass(frozen=True)
class CheckClaim:
    """What a worker holds: the model as it was asked for."""

    model_id: str
    source: ModelSource


def upsert_model(session: Session, info: ModelInfo, *, location: str, status: ModelStatus = "ready") -> Model:
    """``location`` is the absolute path of the model's folder. A model of the same id is replaced."""
    card = info.model_dump(mode="json")
    return _upsert(session, info.id, status=status, location=location, info=card, source=null(), error=null())


def upsert_found(session: Session, info: ModelInfo, *, location: str) -> Model | None:
    """As ``upsert_model``, for a folder that was come upon and that nobody asked for: None, with nothing written, where
    one of the id is being prepared. What a worker makes of it will stand, not the card that lies there still."""
    card = info.model_dump(mode="json")
    values = {"status": "ready", "location": location, "info": card, "source": null(), "error": null()}
    return _write(session, info.id, values, unless=Model.status == "checking")


def request_model(session: Session, model_id: str, source: ModelSource) -> Model:
    """To be prepared by a worker. One of the same id keeps its card for the jobs that it already has."""
    wanted = source.model_dump(mode="json")
    location = source.path or source.hub_id or ""
    return _upsert(session, model_id, status="checking", location=location, source=wanted, error=null())


def claim_check(session: Session) -> CheckClaim | None:
    """The oldest model that waits and that nobody holds. Give it back by ``release_check``, over this connection."""
    waiting = select(Model).where(Model.status == "checking", Model.source.is_not(None)).order_by(Model.created_at)
    for row in session.execute(waiting).scalars().all():
        if session.execute(select(func.pg_try_advisory_lock(_LOCKS, func.hashtext(row.id)))).scalar_one():
            if _is_still_waiting(session, row):
                return CheckClaim(row.id, ModelSource.model_validate(row.source))
            _unlock(session, row.id)
    return None


def release_check(session: Session, claim: CheckClaim) -> None:
    _unlock(session, claim.model_id)


def commit_check(session: Session, claim: CheckClaim, info: ModelInfo, *, location: str) -> bool:
    """False when the model was asked for anew meanwhile, from another source."""
    card = info.model_dump(mode="json")
    return _end(session, claim, status="ready", info=card, location=location, source=null())


def reject_check(session: Session, claim: CheckClaim, detail: str) -> bool:
    error = {"type": f"/problems/{ModelRejected.slug}", "title": ModelRejected.title, "detail": detail}
    return _end(session, claim, status="rejected", error=error)


def get_model(session: Session, model_id: str) -> Model:
    """Raises NotFound, naming those there are."""
    model = session.get(Model, model_id)
    if model is None:
        known = ", ".join(model.id for model in list_models(session)) or "none"
        raise NotFound(f"There is no model {model_id!r}. Registered are: {known}.")
    return model


def is_registered_from(session: Session, model_id: str, folder: Path, sha256: str) -> bool:
    """Whether the model's own folder is this one, in which its card lies. ``sha256`` is what that card says."""
    row = session.get(Model, model_id)
    if row is None:
        return False
    if row.source is None:
        return row.location == str(folder)
    known = {model_id, Path(row.location).name}  # the location is what it is made anew from, until then
    return folder.name in known or (row.info is not None and row.info.get("sha256") == sha256)


def read_card(model: Model) -> ModelInfo:
    """Raises WrongState for a model that is not ready, with what to do."""
    if model.status != "ready":
        advice = {
            "checking": f"wait until GET /models/{model.id} says ready",
            "rejected": (model.error or {}).get("detail", "register it again"),
        }[model.status]
        raise WrongState(f"Model {model.id} is {model.status}: {advice.rstrip('.')}.")
    return ModelInfo.model_validate(model.info)


def list_models(session: Session) -> Sequence[Model]:
    return session.execute(select(Model).order_by(Model.id)).scalars().all()


def _upsert(session: Session, model_id: str, **values: Any) -> Model:
    model = _write(session, model_id, values)
    assert model is not None
    return model


def _write(
    session: Session, model_id: str, values: dict[str, Any], *, unless: ColumnElement[bool] | None = None
) -> Model | None:
    """``unless``: what of a model of the same id keeps it as it is."""
    statement = insert(Model).values(id=model_id, **values)
    statement = statement.on_conflict_do_update(
        index_elements=["id"], set_=values, where=None if unless is None else ~unless
    )
    options = {"populate_existing": True}
    model: Model | None = session.execute(statement.returning(Model), execution_options=options).scalar_one_or_none()
    if model is not None:
        audit.record(session, Action.MODEL_REGISTERED, model_id)
    return model


def _is_still_waiting(session: Session, row: Model) -> bool:
    """Whoever held the lock until now may have ended the check."""
    session.refresh(row)
    return row.status == "checking" and row.source is not None


def _unlock(session: Session, model_id: str) -> None:
    session.execute(select(func.pg_advisory_unlock(_LOCKS, func.hashtext(model_id))))


def _end(session: Session, claim: CheckClaim, **values: Any) -> bool:
    held = (
        Model.id == claim.model_id,
        Model.status == "checking",
        Model.source == claim.source.model_dump(mode="json"),
    )
    return session.execute(update(Model).where(*held).values(**values).returning(Model.id)).first() is not None
