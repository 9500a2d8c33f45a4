"""Checks of adapters: requested by clients, claimed and answered by workers over leases.py, forgotten after a day."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, func, literal, select
from sqlalchemy.orm import Session

from core.db import audit, leases
from core.db.leases import MAX_DEATHS, RowClaim
from core.db.tables import Adapter, AdapterCheck
from core.domain.adapter_check import CheckResult
from core.domain.artifacts import Artifact
from core.domain.audit import Action
from core.domain.errors import AdapterRejected, NotFound, QuotaExceeded
from core.domain.ids import new_id
from core.domain.model import Family, ModelInfo
from core.domain.states import AdapterStatus, CheckStatus

KEPT = timedelta(days=1)
MAX_WAITING = 20
"""Of one tenant. They cost a worker some seconds each, and no quota counts them."""
_GIVEN_UP = f"It was started {MAX_DEATHS} times, and each time its worker died. Ask the operator to read the log."


@dataclass(frozen=True)
class CheckedFile:
    """An adapter to be checked; ``model_sha256``: the base that it was trained or checked on."""

    id: str
    name: str
    model_sha256: str
    file: Artifact


@dataclass(frozen=True)
class CheckClaim(RowClaim):
    """A worker's claim. ``missing``: the ids of those that were deleted since."""

    model_id: str
    model_sha256: str
    family: Family
    files: tuple[CheckedFile, ...]
    missing: tuple[str, ...]


def insert_check(session: Session, tenant_id: str, adapter_ids: Sequence[str], model: ModelInfo) -> AdapterCheck:
    """Forgets the tenant's old ones. The caller has locked the tenant's limits. Raises QuotaExceeded."""
    own = AdapterCheck.tenant_id == tenant_id
    old = AdapterCheck.created_at < func.clock_timestamp() - literal(KEPT)
    session.execute(delete(AdapterCheck).where(own, old))
    waiting = select(func.count()).select_from(AdapterCheck).where(own, AdapterCheck.status == CheckStatus.CHECKING)
    if session.execute(waiting).scalar_one() >= MAX_WAITING:
        raise QuotaExceeded(f"{MAX_WAITING} checks of adapters are waiting already. Wait for one of them.")
    check = AdapterCheck(
        id=new_id("chk"),
        tenant_id=tenant_id,
        model_id=model.id,
        model_sha256=model.sha256,
        family=model.family,
        adapters=list(adapter_ids),
        status=CheckStatus.CHECKING,
    )
    session.add(check)
    session.flush()
    session.refresh(check)
    audit.record(session, Action.ADAPTERS_CHECKED, check.id)
    return check


def get_check(session: Session, tenant_id: str, check_id: str) -> AdapterCheck:
    """Raises NotFound, also for another tenant's."""
    query = select(AdapterCheck).where(AdapterCheck.id == check_id, AdapterCheck.tenant_id == tenant_id)
    check = session.execute(query).scalar_one_or_none()
    if check is None:
        raise NotFound(f"There is no check {check_id}. Checks are kept for a day.")
    return check


def claim_check(session: Session, *, lease_seconds: float) -> CheckClaim | None:
    row = leases.claim(session, AdapterCheck, lease_seconds=lease_seconds)
    if row is None:
        return None
    found = _find_files(session, row)
    files = tuple(found[one] for one in row.adapters if one in found)
    missing = tuple(one for one in row.adapters if one not in found)
    return CheckClaim(row.id, row.attempt, row.model_id, row.model_sha256, row.family, files, missing)


def _find_files(session: Session, row: AdapterCheck) -> dict[str, CheckedFile]:
    ready = (Adapter.tenant_id == row.tenant_id, Adapter.status == AdapterStatus.READY)
    adapters = session.execute(select(Adapter).where(Adapter.id.in_(row.adapters), *ready)).scalars()
    return {
        one.id: CheckedFile(one.id, one.name, one.model_sha256, Artifact.model_validate(one.files["kohya"]))
        for one in adapters
    }


def commit_check(session: Session, claim: CheckClaim, result: CheckResult) -> bool:
    return leases.end(session, AdapterCheck, claim, CheckStatus.DONE, result=result.model_dump(mode="json"))


def fail_check(session: Session, claim: CheckClaim, detail: str) -> bool:
    return leases.end(session, AdapterCheck, claim, CheckStatus.FAILED, error=AdapterRejected(detail).describe())


def expire_checks(session: Session) -> list[AdapterCheck]:
    """Takes back every check whose worker lost its lease; fails one at its last death. For the steward."""
    given_up = {"status": CheckStatus.FAILED, "error": AdapterRejected(_GIVEN_UP).describe()}
    return leases.take_back(session, AdapterCheck, given_up)
