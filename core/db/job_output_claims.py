"""The workers' side of a running job's steps: fenced writes of kept adapters and of requested samples, as in
job_claims.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from core.db import step_adapters
from core.db.events import append_event
from core.db.job_claims import Claim, hold
from core.db.tables import SampleRequest, StepAdapter
from core.domain.artifacts import AdapterFormat, Artifact
from core.domain.errors import describe_problem
from core.domain.events import EventType
from core.domain.states import TerminationReason, title_of


def keep_adapter(
    session: Session, claim: Claim, *, step: int, files: Mapping[AdapterFormat, Artifact], alone: bool
) -> list[str]:
    """``alone``: the other steps' adapters are forgotten. Returns the storage keys that are now unneeded."""
    hold(session, claim)
    step_adapters.keep(
        session, claim.job_id, step=step, attempt=claim.attempt, files={str(name): file for name, file in files.items()}
    )
    if not alone:
        return []
    others = (StepAdapter.job_id == claim.job_id, StepAdapter.step != step)
    keys = step_adapters.list_keys(session.execute(select(StepAdapter).where(*others)).scalars().all())
    session.execute(delete(StepAdapter).where(*others))
    return keys


def add_requested_samples(
    session: Session, claim: Claim, *, request_id: str, step: int, images: Sequence[Mapping[str, Any]]
) -> None:
    hold(session, claim)
    drawn = {"status": "drawn", "step": step, "images": [dict(image) for image in images]}
    if _answer(session, claim, request_id, **drawn):
        data = {"step": step, "request": request_id}
        append_event(session, claim.job_id, EventType.REQUESTED_SAMPLES, claim.attempt, data)


def fail_request(session: Session, claim: Claim, *, request_id: str, detail: str) -> None:
    hold(session, claim)
    reason = TerminationReason.OUT_OF_MEMORY
    _answer(session, claim, request_id, status="failed", error=describe_problem(reason, title_of(reason), detail))


def _answer(session: Session, claim: Claim, request_id: str, **values: Any) -> bool:
    """False if it is answered already."""
    waiting = (SampleRequest.job_id == claim.job_id, SampleRequest.status == "waiting")
    written = update(SampleRequest).where(SampleRequest.id == request_id, *waiting)
    answered = written.values(drawn_at=func.clock_timestamp(), **values).returning(SampleRequest.id)
    return session.execute(answered).first() is not None
