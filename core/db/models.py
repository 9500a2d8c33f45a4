"""Registered base models. They belong to the operator and are the same for every tenant.

A model without a card is `checking` until a worker has prepared it. The worker holds an advisory lock meanwhile, on
the connection by which it also commits: if it loses the connection, it loses the lock and cannot commit.
"""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, delete, func, null, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.db import audit
from core.db.tables import Adapter, Generation, Job, Model
from core.domain.audit import Action
from core.domain.errors import ModelRejected, NotFound, WrongState
from core.domain.model import Calibration, ModelInfo
from core.domain.registration import ModelSource
from core.domain.states import ModelStatus

REMOVED = "removed"
"""The status of a row that only records that its folder was removed from the list; internal to this module."""

_LOCKS = 0x6D64  # the first of the two numbers of our advisory locks; the second is the model's


@dataclass(frozen=True)
class CheckClaim:
    """A worker's claim: the requested model."""

    model_id: str
    source: ModelSource


def upsert_model(session: Session, info: ModelInfo, *, location: str, status: ModelStatus = ModelStatus.READY) -> Model:
    """``location`` is the absolute path of the model's folder. A model of the same id is replaced."""
    card = info.model_dump(mode="json")
    return _upsert(session, info.id, status=status, location=location, info=card, source=null(), error=null())


def upsert_found(session: Session, info: ModelInfo, *, location: str) -> Model | None:
    """As ``upsert_model``, for a folder that was found and not requested: None, with nothing written, if a model of the
    id is being prepared or was deleted. The worker's result will replace the card that is still there."""
    card = info.model_dump(mode="json")
    values = {"status": ModelStatus.READY, "location": location, "info": card, "source": null(), "error": null()}
    return _write(session, info.id, values, unless=Model.status.in_((ModelStatus.CHECKING, REMOVED)))


def request_model(session: Session, model_id: str, source: ModelSource) -> Model:
    """To be prepared by a worker. An existing model of the id keeps its card for the jobs that it already has."""
    wanted = source.model_dump(mode="json")
    location = source.path or source.hub_id or ""
    return _upsert(session, model_id, status=ModelStatus.CHECKING, location=location, source=wanted, error=null())


def claim_check(session: Session) -> CheckClaim | None:
    """The oldest waiting model that no worker holds. Release it by ``release_check``, over this connection."""
    waiting = (
        select(Model).where(Model.status == ModelStatus.CHECKING, Model.source.is_not(None)).order_by(Model.created_at)
    )
    for row in session.execute(waiting).scalars().all():
        if session.execute(select(func.pg_try_advisory_lock(_LOCKS, func.hashtext(row.id)))).scalar_one():
            if _is_still_waiting(session, row):
                return CheckClaim(row.id, ModelSource.model_validate(row.source))
            _unlock(session, row.id)
    return None


def release_check(session: Session, claim: CheckClaim) -> None:
    _unlock(session, claim.model_id)


def commit_check(session: Session, claim: CheckClaim, info: ModelInfo, *, location: str) -> bool:
    """False if the model was requested again meanwhile, from another source."""
    card = info.model_dump(mode="json")
    return _end(session, claim, status=ModelStatus.READY, info=card, location=location, source=null())


def reject_check(session: Session, claim: CheckClaim, detail: str) -> bool:
    return _end(session, claim, status=ModelStatus.REJECTED, error=ModelRejected(detail).describe())


def claim_uncalibrated(session: Session, *, excluding: Collection[tuple[str, str]]) -> Model | None:
    """The first ready model whose memory was traced and whose speed was not measured; ``excluding``: ids with their
    sha256. None also while another worker's transaction holds one."""
    if not session.execute(select(func.pg_try_advisory_xact_lock(_LOCKS, 0))).scalar_one():
        return None
    untimed = Model.info["calibration"].astext.is_(None) & Model.info["memory"].astext.is_not(None)
    key = tuple_(Model.id, Model.info["sha256"].astext)
    wanted = select(Model).where(Model.status == ModelStatus.READY, untimed, key.not_in(list(excluding)))
    return session.execute(wanted.order_by(Model.created_at).limit(1)).scalar_one_or_none()


def record_calibration(session: Session, info: ModelInfo, calibration: Calibration) -> bool:
    """False if the model was replaced meanwhile."""
    card = info.model_copy(update={"calibration": calibration}).model_dump(mode="json")
    same = (Model.id == info.id, Model.status == ModelStatus.READY, Model.info["sha256"].astext == info.sha256)
    return session.execute(update(Model).where(*same).values(info=card).returning(Model.id)).first() is not None


def get_model(session: Session, model_id: str) -> Model:
    """Raises NotFound, naming the usable models."""
    model = session.get(Model, model_id)
    if model is None or model.status == REMOVED:
        ready = [model.id for model in list_models(session) if model.status == ModelStatus.READY]
        close = difflib.get_close_matches(model_id, ready, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise NotFound(f"There is no model {model_id!r}.{hint} Registered are: {', '.join(ready) or 'none'}.")
    return model


def delete_model(session: Session, model_id: str, *, keep_away: bool) -> Model:
    """The deleted row. ``keep_away``: it has a folder, which must not be registered just because it is found, whether
    it stays or could not be removed; only a request registers it. Raises NotFound, and WrongState while a worker
    prepares it or something needs it."""
    model = get_model(session, model_id)
    held = select(func.pg_try_advisory_xact_lock(_LOCKS, func.hashtext(model_id)))
    if not session.execute(held).scalar_one():
        raise WrongState(f"A worker is preparing the model {model_id} right now: wait until it is ready or rejected.")
    _refuse_if_needed(session, model_id)
    try:
        with session.begin_nested():
            session.execute(delete(Model).where(Model.id == model_id))
    except IntegrityError as error:
        raise WrongState(
            f"The model {model_id} is used by jobs, adapters or generations of other tenants: those must be deleted "
            "first."
        ) from error
    session.expunge(model)
    if keep_away:
        values = {"status": REMOVED, "location": model.location, "info": null(), "source": null(), "error": null()}
        session.execute(insert(Model).values(id=model_id, **values))
    audit.record(session, Action.MODEL_DELETED, model_id)
    return model


def _refuse_if_needed(session: Session, model_id: str) -> None:
    """Within the caller's own tenant; only the database sees the other tenants' uses."""
    for kind, table in (("job", Job), ("adapter", Adapter), ("generation", Generation)):
        found = session.execute(select(table.id).where(table.model_id == model_id).limit(1)).scalar_one_or_none()
        if found is not None:
            raise WrongState(
                f"The model {model_id} is used by the {kind} {found}: delete its jobs, adapters and generations first."
            )


def is_registered_from(session: Session, model_id: str, folder: Path, sha256: str) -> bool:
    """Whether the model's own folder is this one, in which its card is. ``sha256`` is from that card."""
    row = session.get(Model, model_id)
    if row is None or row.status == REMOVED:
        return False
    if row.source is None:
        return row.location == str(folder)
    known = {model_id, Path(row.location).name}  # until then the location is the source that it is made from
    return folder.name in known or (row.info is not None and row.info.get("sha256") == sha256)


def read_card(model: Model) -> ModelInfo:
    """Raises WrongState for a model that is not ready, with what to do."""
    if model.status != ModelStatus.READY:
        advice = {
            ModelStatus.CHECKING: f"wait until GET /models/{model.id} says ready",
            ModelStatus.REJECTED: (model.error or {}).get("detail", "register it again"),
        }[ModelStatus(model.status)]
        raise WrongState(f"Model {model.id} is {model.status}: {advice.rstrip('.')}.")
    return ModelInfo.model_validate(model.info)


def list_models(session: Session) -> Sequence[Model]:
    return session.execute(select(Model).where(Model.status != REMOVED).order_by(Model.id)).scalars().all()


def list_statuses(session: Session) -> list[tuple[str, str]]:
    """(id, status) of each, without the cards."""
    query = select(Model.id, Model.status).where(Model.status != REMOVED).order_by(Model.id)
    return [(row.id, row.status) for row in session.execute(query)]


def _upsert(session: Session, model_id: str, **values: Any) -> Model:
    model = _write(session, model_id, values)
    assert model is not None
    return model


def _write(
    session: Session, model_id: str, values: dict[str, Any], *, unless: ColumnElement[bool] | None = None
) -> Model | None:
    """``unless``: a condition under which an existing model of the id stays as it is."""
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
    """The holder of the lock may just have ended the check."""
    session.refresh(row)
    return row.status == ModelStatus.CHECKING and row.source is not None


def _unlock(session: Session, model_id: str) -> None:
    session.execute(select(func.pg_advisory_unlock(_LOCKS, func.hashtext(model_id))))


def _end(session: Session, claim: CheckClaim, **values: Any) -> bool:
    held = (
        Model.id == claim.model_id,
        Model.status == ModelStatus.CHECKING,
        Model.source == claim.source.model_dump(mode="json"),
    )
    return session.execute(update(Model).where(*held).values(**values).returning(Model.id)).first() is not None
