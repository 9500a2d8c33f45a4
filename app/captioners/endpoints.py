"""/captioners: list, read, register, delete."""

import asyncio

from fastapi import APIRouter, Response

from app.captioners import service
from app.captioners.schemas import CaptionerOut, CaptionerRegistration
from app.deps import DatabaseDep, Id, ServicesDep, needs_key
from app.models.removal import remove_folder
from app.openapi import problems
from app.pages import Page
from core.db import captioners

router = APIRouter(prefix="/captioners", tags=["captioners"], dependencies=[needs_key])


@router.get("", responses=problems())
async def list_captioners(database: DatabaseDep) -> Page[CaptionerOut]:
    """All captioners that captionings may name."""
    rows = await database.run(captioners.list_captioners)
    return Page[CaptionerOut].of([CaptionerOut.of(row) for row in rows], lambda row: row.id)


@router.get("/{captioner_id}", responses=problems("not-found"))
async def get_captioner(captioner_id: Id, database: DatabaseDep) -> CaptionerOut:
    """One captioner: its status, and what it is."""
    return CaptionerOut.of(await database.run(captioners.get_captioner, captioner_id))


@router.post("", status_code=202, responses=problems("forbidden", "captioner-rejected"))
async def register_captioner(body: CaptionerRegistration, services: ServicesDep, response: Response) -> CaptionerOut:
    """Registers a captioner; it replaces one of the same id.

    It is `checking` until a worker has loaded it and captioned an image by it: `GET /captioners/{id}` then says
    `ready`, or `rejected` with the reason.
    """
    location = await asyncio.to_thread(service.find_location, services.settings.models_path, body)
    row = await services.database.run(service.register, body, location)
    services.doorbell.ring("train")
    services.doorbell.ring("validate")
    response.headers["Location"] = f"/captioners/{row.id}"
    return CaptionerOut.of(row)


@router.delete("/{captioner_id}", status_code=204, responses=problems("forbidden", "not-found", "wrong-state"))
async def delete_captioner(captioner_id: Id, services: ServicesDep) -> None:
    """Removes a captioner. Queued captionings by it fail; captions that it wrote stay.

    A folder that the service fetched from the Hub is removed. A folder of your own stays where it is.
    """
    folder = await services.database.run(service.delete, services.settings, captioner_id)
    if folder is not None:
        await asyncio.to_thread(remove_folder, folder)
