"""GET and POST /models."""

import asyncio

from fastapi import APIRouter, Depends, Response

from app.deps import DatabaseDep, Id, SettingsDep, get_admin, needs_key
from app.models import service
from app.models.schemas import ModelOut, ModelRegistration
from app.openapi import problems
from app.pages import Page
from core.db import models

router = APIRouter(prefix="/models", tags=["models"], dependencies=[needs_key])


@router.get("", responses=problems())
async def list_models(database: DatabaseDep) -> Page[ModelOut]:
    """All base models that jobs may name."""
    rows = await database.run(models.list_models)
    return Page[ModelOut].of([ModelOut.of(row) for row in rows], lambda model: model.id)


@router.get("/{model_id}", responses=problems("not-found"))
async def get_model(model_id: Id, database: DatabaseDep) -> ModelOut:
    return ModelOut.of(await database.run(models.get_model, model_id))


@router.post(
    "",
    status_code=201,
    dependencies=[Depends(get_admin)],
    responses=problems("forbidden", "invalid-request", "model-rejected"),
)
async def register_model(
    body: ModelRegistration, settings: SettingsDep, database: DatabaseDep, response: Response
) -> ModelOut:
    """Registers a folder of the operator's models directory as a base; a model of the same id is replaced."""
    folder = await asyncio.to_thread(service.open_below, settings.models_path, body.path)
    model = await database.run(service.register, folder)
    response.headers["Location"] = f"/models/{model.id}"
    return ModelOut.of(model)
