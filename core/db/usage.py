"""A tenant's usage, counted from the rows themselves: a separate counter would drift from them."""

from dataclasses import dataclass

from sqlalchemy import Date, Integer, cast, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db.tables import Job, UsageDay


@dataclass(frozen=True)
class JobCounts:
    """``running``: held by workers. ``waiting``: queued, and paused, since those may be queued again at any time."""

    running: int
    waiting: int


@dataclass(frozen=True)
class Usage:
    running_jobs: int
    queued_jobs: int
    stored_bytes: int
    steps_today: int


STORED_BYTES = """
SELECT
    (SELECT coalesce(sum(image_bytes), 0) FROM datasets WHERE tenant_id = :tenant_id AND status = 'ready')
  + (SELECT coalesce(sum(size), 0) FROM (
        SELECT DISTINCT image ->> 'key', (image ->> 'size')::bigint
            + coalesce((image -> 'thumbnail' ->> 'size')::bigint, 0) AS size
        FROM datasets AS revision CROSS JOIN LATERAL jsonb_array_elements(revision.manifest -> 'images') AS image
        WHERE revision.tenant_id = :tenant_id AND EXISTS (
            SELECT FROM unnest(revision.image_folders) AS folder
            WHERE NOT EXISTS (SELECT FROM datasets WHERE id = folder))
        AND NOT EXISTS (SELECT FROM datasets WHERE id = split_part(image ->> 'key', '/', 2))) AS left_behind)
  + (SELECT coalesce(sum(pg_column_size(manifest)), 0) FROM datasets
     WHERE tenant_id = :tenant_id AND image_folders <> ARRAY[id::text] AND image_folders <> '{}')
  + (SELECT coalesce(sum((image ->> 'size')::bigint), 0)
     FROM datasets CROSS JOIN LATERAL jsonb_array_elements(manifest -> 'images') AS image
     WHERE tenant_id = :tenant_id AND status = 'validating' AND jsonb_exists(crops -> 'boxes', image ->> 'name'))
  + (SELECT coalesce(sum(size), 0) FROM dataset_files WHERE dataset_id IN (
        SELECT id FROM datasets WHERE tenant_id = :tenant_id AND status IN ('open', 'validating')))
  + (SELECT coalesce(sum(size), 0) FROM job_checkpoints WHERE job_id IN (
        SELECT id FROM jobs WHERE tenant_id = :tenant_id))
  + (SELECT coalesce(sum(image_bytes), 0) FROM job_samples WHERE job_id IN (
        SELECT id FROM jobs WHERE tenant_id = :tenant_id))
  + (SELECT coalesce(sum(size), 0) FROM job_artifacts WHERE job_id IN (
        SELECT id FROM jobs WHERE tenant_id = :tenant_id))
  + (SELECT coalesce(sum(size), 0) FROM step_adapters AS kept WHERE job_id IN (
        SELECT id FROM jobs WHERE tenant_id = :tenant_id) AND NOT EXISTS (
            SELECT FROM job_artifacts WHERE job_id = kept.job_id AND key = kept.files -> 'kohya' ->> 'key'))
  + (SELECT coalesce(sum(image_bytes), 0) FROM sample_requests WHERE job_id IN (
        SELECT id FROM jobs WHERE tenant_id = :tenant_id))
  + (SELECT coalesce(sum((file.value ->> 'size')::bigint), 0)
     FROM adapters CROSS JOIN LATERAL (
        SELECT value FROM jsonb_each(files) UNION ALL SELECT upload WHERE upload IS NOT NULL
        UNION ALL SELECT jsonb_build_object('size', merge -> 'expected_bytes') WHERE merge IS NOT NULL
            AND status = 'checking'
     ) AS file
     WHERE adapters.tenant_id = :tenant_id AND adapters.job_id IS NULL)
  + (SELECT coalesce(sum((cover ->> 'size')::bigint), 0) FROM adapters WHERE tenant_id = :tenant_id)
  + (SELECT coalesce(sum((upload ->> 'size')::bigint), 0) FROM sent_covers
     WHERE tenant_id = :tenant_id AND status = 'checking')
  + (SELECT coalesce(sum((image.value ->> 'size')::bigint), 0)
     FROM generations CROSS JOIN LATERAL jsonb_each(images) AS image
     WHERE generations.tenant_id = :tenant_id)
"""
"""The files that rows name, each once. A ready dataset's images with their thumbnails, not its uploads, which are gone
by then; images that revisions share count for the dataset that they came with and, once it is deleted, by their keys.
An image that is to be cropped counts twice until it is. The manifest of a revision counts too: else a tenant could fill
the database with them. A job's adapter is among the job's artifacts, and once more among its steps'. A merge counts
before it is made, or any number of them could be waiting."""


def measure_usage(session: Session, tenant_id: str) -> Usage:
    counts = count_jobs(session, tenant_id)
    return Usage(
        running_jobs=counts.running,
        queued_jobs=counts.waiting,
        stored_bytes=sum_stored_bytes(session, tenant_id),
        steps_today=count_steps(session, tenant_id),
    )


def count_jobs(session: Session, tenant_id: str) -> JobCounts:
    waiting = text("status IN ('queued', 'paused')")
    # The states are written out as in the index, which a generic plan could not use for parameters.
    unfinished = text("status IN ('queued', 'paused', 'running', 'pausing', 'canceling')")
    query = select(func.count(), func.count().filter(waiting)).select_from(Job)
    total, num_waiting = session.execute(query.where(Job.tenant_id == tenant_id, unfinished)).one()
    return JobCounts(running=total - num_waiting, waiting=num_waiting)


def sum_stored_bytes(session: Session, tenant_id: str) -> int:
    return int(session.execute(text(STORED_BYTES), {"tenant_id": tenant_id}).scalar_one())


def count_steps(session: Session, tenant_id: str) -> int:
    """The steps of the jobs accepted today."""
    query = select(UsageDay.steps).where(UsageDay.tenant_id == tenant_id, UsageDay.day == _today())
    return session.execute(query).scalar_one_or_none() or 0


def add_steps(session: Session, tenant_id: str, steps: int) -> int:
    """The steps of the jobs accepted today, with these."""
    row = insert(UsageDay).values(tenant_id=tenant_id, day=_today(), steps=steps)
    more = {"steps": UsageDay.steps + row.excluded.steps}
    added = row.on_conflict_do_update(index_elements=["tenant_id", "day"], set_=more).returning(UsageDay.steps)
    return session.execute(added).scalar_one()


def give_back_steps(session: Session, job: Job) -> None:
    """For a job that was canceled before any worker started it."""
    left = func.greatest(UsageDay.steps - job.outline.get("steps", 0), 0)
    day = UsageDay.day == job.created_at.date()
    session.execute(update(UsageDay).where(UsageDay.tenant_id == job.tenant_id, day).values(steps=left))


def count_seconds_of_day_left(session: Session) -> int:
    """Until midnight UTC, at least 1."""
    midnight = func.date_trunc("day", func.clock_timestamp()) + text("interval '1 day'")
    left = cast(func.extract("epoch", midnight - func.clock_timestamp()), Integer)
    return max(1, int(session.execute(select(left)).scalar_one()))


def _today() -> object:
    """The sessions' time zone is UTC."""
    return cast(func.clock_timestamp(), Date)
