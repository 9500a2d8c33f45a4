"""/jobs/{id}/metrics.csv, /tensorboard and /report: a job's history as files to be read elsewhere."""

from collections.abc import AsyncIterable, Iterable
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from app.deps import CallerDep, DatabaseDep, Id, ServicesDep, needs_key
from app.files import OCTETS
from app.jobs.downloads import name_of
from app.jobs.metric_files import EventWriter, stream_metrics, write_heading, write_rows
from app.jobs.report import read_report, write_report
from app.methods import is_head
from app.openapi import problems
from core.db import jobs
from core.db.tables import Job
from core.storage.disposition import attachment, make_filename

CSV, HTML = "text/csv", "text/html"

router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"], dependencies=[needs_key])


def _of_type(media_type: str, description: str) -> dict[int | str, dict[str, Any]]:
    kind = {"type": "string", "format": "binary"}
    return {200: {"content": {media_type: {"schema": kind}}, "description": description}}


@router.get(
    "/metrics.csv",
    response_class=Response,
    responses={**_of_type(CSV, "One line for each step, after a heading."), **problems("not-found")},
)
async def download_job_metrics(job_id: Id, request: Request, caller: CallerDep, database: DatabaseDep) -> Response:
    """The metrics as a table. An empty field was not measured."""
    job = await database.run(jobs.get_job, caller.tenant_id, job_id)
    content = stream_metrics(database, job_id, write_heading(), write_rows)
    return _send(request, content, f"{CSV}; charset=utf-8; header=present", make_filename(name_of(job), ".csv"))


@router.get(
    "/tensorboard",
    response_class=Response,
    responses={**_of_type(OCTETS, "An event file for TensorBoard's `--logdir`."), **problems("not-found")},
)
async def download_job_events_file(job_id: Id, request: Request, caller: CallerDep, database: DatabaseDep) -> Response:
    """The metrics for TensorBoard: save the file in a folder under its own name, and run `tensorboard --logdir`."""
    job = await database.run(jobs.get_job, caller.tenant_id, job_id)
    began: datetime = job.started_at or job.created_at
    writer = EventWriter(began)
    content = stream_metrics(database, job_id, writer.write_version(), writer.write_rows)
    return _send(request, content, OCTETS, f"events.out.tfevents.{int(began.timestamp())}.{job_id}")


@router.get(
    "/report",
    response_class=Response,
    responses={**_of_type(HTML, "The page."), **problems("not-found")},
)
async def download_job_report(job_id: Id, request: Request, caller: CallerDep, services: ServicesDep) -> Response:
    """One HTML page with the job's spec, plan, losses, samples, scores, load proof and events. It holds its images, and
    can be read without the service."""

    def read(session: Session) -> tuple[Any, Job]:
        report = read_report(session, caller.tenant_id, job_id)
        return report, report.job

    report, job = await services.database.run(read)
    page = write_report(report, services.storage)
    return _send(request, page, f"{HTML}; charset=utf-8", make_filename(name_of(job), ".html", "report"))


def _send(
    request: Request, content: AsyncIterable[bytes] | Iterable[bytes], media_type: str, filename: str
) -> Response:
    """To be saved; what a browser shows of it may do nothing."""
    headers = {
        "Cache-Control": "private, no-cache",
        "Content-Disposition": attachment(filename),
        "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox",
    }
    return StreamingResponse(() if is_head(request) else content, media_type=media_type, headers=headers)
