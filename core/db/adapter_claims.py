"""The workers' side of imported adapters, over leases.py: claim one that needs a check, and commit the findings."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import case, func, null
from sqlalchemy.orm import Session

from core.db import leases
from core.db.leases import MAX_DEATHS, RowClaim
from core.db.tables import Adapter
from core.domain.adapter_import import Findings
from core.domain.artifacts import AdapterFormat, Artifact
from core.domain.errors import AdapterRejected
from core.domain.model import Family
from core.domain.states import AdapterStatus

_GIVEN_UP = (
    f"Its check was started {MAX_DEATHS} times, and each time its worker died. Ask the operator to read the log."
)
_ENDED = {"upload": null(), "checked_at": func.clock_timestamp()}


@dataclass(frozen=True)
class ImportClaim(RowClaim):
    """A worker's claim: the adapter under one attempt."""

    model_id: str
    family: Family
    upload: Artifact


def claim_import(session: Session, *, lease_seconds: float) -> ImportClaim | None:
    row = leases.claim(session, Adapter, lease_seconds=lease_seconds)
    if row is None:
        return None
    return ImportClaim(row.id, row.attempt, row.model_id, row.family, Artifact.model_validate(row.upload))


def commit_import(
    session: Session, claim: ImportClaim, findings: Findings, files: Mapping[AdapterFormat, Artifact]
) -> bool:
    """The file's trigger is used if its owner gave none."""
    found = findings.model_dump(mode="json")
    found["trigger"] = case((Adapter.trigger == "", findings.trigger), else_=Adapter.trigger)
    kept = {name: file.model_dump() for name, file in files.items()}
    return leases.end(session, Adapter, claim, AdapterStatus.READY, files=kept, **found, **_ENDED)


def reject_import(session: Session, claim: ImportClaim, detail: str) -> bool:
    error = AdapterRejected(detail).describe()
    return leases.end(session, Adapter, claim, AdapterStatus.REJECTED, error=error, **_ENDED)


def expire_imports(session: Session) -> list[Adapter]:
    """Takes back every import whose worker lost its lease; rejects one at its last death. For the steward."""
    error = AdapterRejected(_GIVEN_UP).describe()
    given_up = {"status": AdapterStatus.REJECTED, "error": error, "checked_at": func.clock_timestamp()}
    return leases.take_back(session, Adapter, given_up)
