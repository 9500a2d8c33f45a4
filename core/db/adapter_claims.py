"""The workers' side of adapters that wait, over leases.py: claim an import to check or a merge to make, and commit the
findings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, func, null, select
from sqlalchemy.orm import Session

from core.db import leases
from core.db.leases import MAX_DEATHS, RowClaim
from core.db.tables import Adapter, Model
from core.domain.adapter_import import Findings
from core.domain.adapter_merge import Merge, MergeError
from core.domain.artifacts import AdapterFormat, Artifact
from core.domain.errors import AdapterRejected
from core.domain.model import Family, ModelInfo
from core.domain.states import AdapterStatus, ModelStatus

_GIVEN_UP = (
    f"Its check was started {MAX_DEATHS} times, and each time its worker died. Ask the operator to read the log."
)
_ENDED = {"upload": null(), "checked_at": func.clock_timestamp()}


@dataclass(frozen=True)
class AdapterClaim(RowClaim):
    """A worker's claim: the adapter under one attempt."""

    model_id: str
    family: Family


@dataclass(frozen=True)
class ImportClaim(AdapterClaim):
    upload: Artifact


@dataclass(frozen=True)
class MergeClaim(AdapterClaim):
    """``files``: the sources' files in kohya's format, by the sources' ids. ``bases``: the cards of an extraction's two
    bases as they are registered now, by id; None of one that is being registered again. ``model_sha256``: of the base,
    as the merge was requested for it."""

    model_sha256: str
    merge: Merge
    name: str
    trigger: str
    files: Mapping[str, Artifact]
    bases: Mapping[str, ModelInfo | None]


def claim_import(session: Session, *, lease_seconds: float) -> ImportClaim | MergeClaim | None:
    """The adapter that has waited longest: an import or, since both wait in one queue, a merge."""
    row = leases.claim(session, Adapter, lease_seconds=lease_seconds)
    if row is None:
        return None
    if row.merge is None:
        return ImportClaim(row.id, row.attempt, row.model_id, row.family, Artifact.model_validate(row.upload))
    merge = Merge.model_validate(row.merge)
    return MergeClaim(
        row.id,
        row.attempt,
        row.model_id,
        row.family,
        model_sha256=row.model_sha256,
        merge=merge,
        name=row.name,
        trigger=row.trigger,
        files=_find_files(session, row.tenant_id, merge),
        bases=_find_bases(session, row.model_id, merge) if merge.method == "extract" else {},
    )


def _find_bases(session: Session, model_id: str, merge: Merge) -> dict[str, ModelInfo | None]:
    model_ids = [model_id, *(source.id for source in merge.sources)]
    usable = Model.status.in_((ModelStatus.READY, ModelStatus.CHECKING))
    found = session.execute(select(Model).where(Model.id.in_(model_ids), usable)).scalars()
    return {row.id: ModelInfo.model_validate(row.info) if row.status == ModelStatus.READY else None for row in found}


def _find_files(session: Session, tenant_id: str, merge: Merge) -> dict[str, Artifact]:
    wanted = [source.id for source in merge.sources]
    query = select(Adapter.id, Adapter.files).where(Adapter.id.in_(wanted), Adapter.tenant_id == tenant_id)
    return {row.id: Artifact.model_validate(row.files["kohya"]) for row in session.execute(query)}


def commit_import(
    session: Session, claim: AdapterClaim, findings: Findings, files: Mapping[AdapterFormat, Artifact]
) -> bool:
    """The file's trigger is used if its owner gave none."""
    return _commit(session, claim, findings, files)


def commit_merge(
    session: Session,
    claim: MergeClaim,
    findings: Findings,
    files: Mapping[AdapterFormat, Artifact],
    error: MergeError | None,
) -> bool:
    merge = claim.merge.model_copy(update={"error": error})
    return _commit(session, claim, findings, files, merge=merge.model_dump(mode="json"))


def _commit(
    session: Session,
    claim: AdapterClaim,
    findings: Findings,
    files: Mapping[AdapterFormat, Artifact],
    **values: Any,
) -> bool:
    found = findings.model_dump(mode="json")
    found["trigger"] = case((Adapter.trigger == "", findings.trigger), else_=Adapter.trigger)
    kept = {name: file.model_dump() for name, file in files.items()}
    return leases.end(session, Adapter, claim, AdapterStatus.READY, files=kept, **found, **values, **_ENDED)


def reject_import(session: Session, claim: AdapterClaim, detail: str) -> bool:
    error = AdapterRejected(detail).describe()
    return leases.end(session, Adapter, claim, AdapterStatus.REJECTED, error=error, **_ENDED)


def expire_imports(session: Session) -> list[Adapter]:
    """Takes back every adapter whose worker lost its lease; rejects one at its last death. For the steward."""
    error = AdapterRejected(_GIVEN_UP).describe()
    given_up = {"status": AdapterStatus.REJECTED, "error": error, "checked_at": func.clock_timestamp()}
    return leases.take_back(session, Adapter, given_up)
