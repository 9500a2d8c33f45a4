"""Reads a stack's rows and store after a run, for the checker; and the bytes that jobs ended in."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.tables import Dataset, Job, JobArtifact, JobCheckpoint, JobEvent, JobSample
from tests.chaos.clients import PostedDataset, PostedJob
from tests.chaos.history import Event, Outcome, Promise, StoredFile, Violation, check_history
from tests.chaos.stack import BUCKET, PREFIX, Stack

Bytes = dict[str, str]
"""What -> sha256: both adapters, every sample and grid, and the last checkpoint with the optimizer's state."""


@dataclass(frozen=True)
class Audit:
    """``different``: (job, what) whose bytes are not the undisturbed run's."""

    violations: list[Violation]
    outcomes: list[Outcome]
    num_events: int
    num_files: int
    num_compared: int
    different: list[tuple[str, str]]


def audit(
    stack: Stack, jobs: Iterable[PostedJob], datasets: Iterable[PostedDataset], undisturbed: Mapping[str, Bytes]
) -> Audit:
    """All jobs of the stack, those included whose answer no client heard."""
    jobs = list(jobs)
    with stack.sessions() as session:
        outcomes, events = read_outcomes(session), read_events(session)
        files = [StoredFile(job_id, key, sha, hash_object(stack, key)) for job_id, key, sha in _name_files(session)]
        violations = check_history([_promise(posted) for posted in jobs], outcomes, events, files)
        violations += _check_datasets(session, stack, datasets)
        ended = {outcome.job_id: outcome.status for outcome in outcomes}
        compared = [posted for posted in jobs if ended.get(posted.job_id) == "succeeded"]
        different = [
            (f"{posted.job_id} ({posted.spec})", what)
            for posted in compared
            for what in _compare(session, posted, undisturbed)
        ]
    return Audit(violations, outcomes, len(events), len(files), len(compared), different)


def read_bytes(session: Session, job_id: str) -> Bytes:
    found: Bytes = {}
    for artifact in session.execute(select(JobArtifact).where(JobArtifact.job_id == job_id)).scalars():
        found[artifact.kind] = artifact.sha256
    for sample in session.execute(select(JobSample).where(JobSample.job_id == job_id)).scalars():
        found[f"grid {sample.step}"] = sample.grid["sha256"]
        found |= {f"sample {sample.step} {n}": image["sha256"] for n, image in enumerate(sample.images)}
    newest = select(JobCheckpoint).where(JobCheckpoint.job_id == job_id).order_by(JobCheckpoint.step.desc()).limit(1)
    for checkpoint in session.execute(newest).scalars():
        found[f"checkpoint {checkpoint.step}"] = checkpoint.sha256
    return found


def read_events(session: Session) -> list[Event]:
    rows = session.execute(select(JobEvent).order_by(JobEvent.job_id, JobEvent.seq)).scalars()
    return [Event(row.job_id, row.seq, row.type, row.attempt, row.created_at.timestamp(), row.data) for row in rows]


def read_outcomes(session: Session) -> list[Outcome]:
    return [Outcome(*row) for row in session.execute(select(Job.id, Job.status, Job.attempt))]


def _promise(posted: PostedJob) -> Promise:
    return Promise(tuple(posted.job_ids), cancel_accepted=posted.asked("cancel"))


def _compare(session: Session, posted: PostedJob, undisturbed: Mapping[str, Bytes]) -> Iterator[str]:
    found, wanted = read_bytes(session, posted.job_id), undisturbed[posted.spec]
    for what in sorted(found.keys() | wanted.keys()):
        if found.get(what) != wanted.get(what):
            yield what


def _name_files(session: Session) -> Iterator[tuple[str, str, str]]:
    """(job, key, sha256) of every file that a row names."""
    for table in (JobArtifact, JobCheckpoint):
        for row in session.execute(select(table)).scalars():
            yield row.job_id, row.key, row.sha256
    for sample in session.execute(select(JobSample)).scalars():
        for image in (sample.grid, *sample.images):
            yield sample.job_id, image["key"], image["sha256"]


def _check_datasets(session: Session, stack: Stack, datasets: Iterable[PostedDataset]) -> Iterator[Violation]:
    """What was answered with 202 is ready, with every picture that was sent, whole."""
    for posted in datasets:
        dataset = session.get(Dataset, posted.dataset_id)
        if dataset is None or dataset.status != "ready":
            yield Violation("lost dataset", posted.dataset_id, "is gone" if dataset is None else f"is {dataset.status}")
            continue
        images = (dataset.manifest or {})["images"]
        if len(images) != posted.num_pictures:
            yield Violation(
                "part of a dataset", posted.dataset_id, f"has {len(images)} of {posted.num_pictures} pictures"
            )
        for image in images:
            if hash_object(stack, image["key"]) != image["sha256"]:
                yield Violation("damaged file", posted.dataset_id, image["key"])


def hash_object(stack: Stack, key: str) -> str | None:
    """Straight from the store, past the proxy."""
    try:
        body: Any = stack.store.get_object(Bucket=BUCKET, Key=f"{PREFIX}/{key}")["Body"].read()
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return None
        raise
    return hashlib.sha256(body).hexdigest()
