"""Registered base models. They belong to the operator and are the same for every tenant."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db.tables import Model
from core.domain.errors import NotFound
from core.domain.model import ModelInfo, ModelStatus


def upsert_model(session: Session, info: ModelInfo, *, location: str, status: ModelStatus = "ready") -> Model:
    """``location`` is the absolute path of the model's folder. A model of the same id is replaced."""
    values = {"status": status, "location": location, "info": info.model_dump(mode="json")}
    statement = insert(Model).values(id=info.id, **values)
    statement = statement.on_conflict_do_update(index_elements=["id"], set_=values)
    options = {"populate_existing": True}
    return session.execute(statement.returning(Model), execution_options=options).scalar_one()


def get_model(session: Session, model_id: str) -> Model:
    """Raises NotFound, naming those there are."""
    model = session.get(Model, model_id)
    if model is None:
        known = ", ".join(model.id for model in list_models(session)) or "none"
        raise NotFound(f"There is no model {model_id!r}. Registered are: {known}.")
    return model


def list_models(session: Session) -> Sequence[Model]:
    return session.execute(select(Model).order_by(Model.id)).scalars().all()
