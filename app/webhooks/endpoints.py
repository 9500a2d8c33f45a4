"""A job's webhook deliveries, and the secret that signs them."""

from typing import Annotated

from fastapi import APIRouter, Response

from app.deps import DEFAULT_PAGE, CallerDep, DatabaseDep, DoorbellDep, Id, Limit, continue_after, needs_key
from app.openapi import problems
from app.pages import Page
from app.webhooks import service
from app.webhooks.schemas import DeliveryOut, SecretOut
from core.db import webhooks
from core.domain.webhooks import DeliveryStatus

router = APIRouter(tags=["webhooks"], dependencies=[needs_key])


@router.get("/jobs/{job_id}/deliveries", responses=problems("not-found"))
async def list_deliveries(
    job_id: Id,
    caller: CallerDep,
    database: DatabaseDep,
    after: Annotated[str | None, continue_after("evt")] = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[DeliveryOut]:
    """The deliveries to the job's receiver, sent and pending, in the order of the events, with every attempt."""
    rows, has_more = await database.run(service.list_deliveries, caller.tenant_id, job_id, after=after, limit=limit)
    return Page[DeliveryOut].of([DeliveryOut.of(row) for row in rows], lambda row: row.id, has_more=has_more)


@router.post("/jobs/{job_id}/deliveries/test", status_code=202, responses=problems("not-found", "wrong-state"))
async def send_test_delivery(
    job_id: Id, caller: CallerDep, database: DatabaseDep, doorbell: DoorbellDep
) -> DeliveryOut:
    """Sends the job's receiver a message of the type `webhook.test`, signed as all others. It is a delivery with the
    `seq` 0, and replaces the job's previous test."""
    row = await database.run(service.send_test, caller.tenant_id, job_id)
    doorbell.ring("deliver")
    return DeliveryOut.of(row)


@router.post("/jobs/{job_id}/deliveries/{delivery_id}/redeliver", status_code=202, responses=problems("not-found"))
async def redeliver(
    job_id: Id, delivery_id: Id, caller: CallerDep, database: DatabaseDep, doorbell: DoorbellDep
) -> DeliveryOut:
    """Sends it again, now, whatever its status, under the same `webhook-id`."""
    row = await database.run(service.redeliver, caller.tenant_id, job_id, delivery_id)
    doorbell.ring("deliver")
    return DeliveryOut.of(row)


@router.get("/webhooks/deliveries", responses=problems())
async def list_all_deliveries(
    caller: CallerDep,
    database: DatabaseDep,
    status: DeliveryStatus | None = None,
    after: Annotated[str | None, continue_after("evt")] = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[DeliveryOut]:
    """The deliveries of all your jobs, newest first, with every attempt."""
    rows, has_more = await database.run(
        webhooks.list_recent_deliveries, caller.tenant_id, status=status, after=after, limit=limit
    )
    return Page[DeliveryOut].of([DeliveryOut.of(row) for row in rows], lambda row: row.id, has_more=has_more)


@router.get("/webhooks/secret", responses=problems())
async def get_webhook_secret(caller: CallerDep, database: DatabaseDep, response: Response) -> SecretOut:
    """The signing secret, created at the first request."""
    response.headers["Cache-Control"] = "no-store"
    secret = await database.run(webhooks.read_secret, caller.tenant_id)
    return SecretOut(secret=secret.secret, previous_valid_until=secret.previous_until)


@router.post("/webhooks/secret/rotate", responses=problems())
async def rotate_webhook_secret(caller: CallerDep, database: DatabaseDep, response: Response) -> SecretOut:
    """Creates a new secret. For a day the old one signs as well, so that receivers can switch one by one."""
    response.headers["Cache-Control"] = "no-store"
    secret = await database.run(webhooks.rotate_secret, caller.tenant_id)
    return SecretOut(secret=secret.secret, previous_valid_until=secret.previous_until)
