"""/models: list, read, register, delete."""

import asyncio

from fastapi import APIRouter, Response

from app.deps import DatabaseDep, Id, ServicesDep, needs_key
from app.models import removal, service
from app.models.schemas import ModelOut, ModelRegistration
from app.openapi import problems
from app.pages import Page
from core.db import models
from core.domain.states import ModelStatus

router = APIRouter(prefix="/models", tags=["models"], dependencies=[needs_key])


@router.get("", responses=problems())
async def list_models(database: DatabaseDep) -> Page[ModelOut]:
    """All base models that jobs may name."""
    rows = await database.run(models.list_models)
    return Page[ModelOut].of([ModelOut.of(row) for row in rows], lambda model: model.id)


@router.get("/{model_id}", responses=problems("not-found"))
async def get_model(model_id: Id, database: DatabaseDep) -> ModelOut:
    """One base model: its status, and the starting values of its presets."""
    return ModelOut.of(await database.run(models.get_model, model_id))


@router.post(
    "",
    status_code=201,
    responses=problems("forbidden", "model-rejected"),
)
async def register_model(body: ModelRegistration, services: ServicesDep, response: Response) -> ModelOut:
    """Registers a base model; it replaces one of the same id.

    A folder that was prepared before is `ready` at once. A single file, a folder without a card and a repository of
    the Hub are `checking` until a worker has prepared them: `GET /models/{id}` then says `ready`, or `rejected` with
    the reason. The folder of a registered model cannot take another id: copy it for that.
    """
    models_path = services.settings.models_path
    folder = None if body.path is None else await asyncio.to_thread(service.open_below, models_path, body)
    model = await services.database.run(service.register, body, folder)
    if model.status == ModelStatus.CHECKING:
        services.doorbell.ring("train")
        services.doorbell.ring("validate")
    response.headers["Location"] = f"/models/{model.id}"
    return ModelOut.of(model)


@router.delete("/{model_id}", status_code=204, responses=problems("forbidden", "not-found", "wrong-state"))
async def delete_model(model_id: Id, services: ServicesDep) -> None:
    """Removes a base model that no job and no adapter needs, for example a rejected one.

    A folder that the service fetched from the Hub or converted from a single file is removed. A folder or file of your
    own stays where it is; it is not registered again by itself, but may be by `POST /models`.
    """
    folder = await services.database.run(removal.delete, services.settings, model_id)
    if folder is not None:
        await asyncio.to_thread(removal.remove_folder, folder)
