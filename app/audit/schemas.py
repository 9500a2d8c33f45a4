"""Entries of the audit log, as the API shows them."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from core.db.tables import AuditEntry
from core.domain.audit import Action

_ENTRY: dict[str, Any] = {
    "id": "aud_01j9z4m6p8r0t2v4x6z8b0d2f4",
    "object": "audit_entry",
    "action": "job.canceled",
    "target": "job_01j9z0000000000000000000000",
    "key": "key_01j9z2c4e6g8k0n2q4s6u8w0y2",
    "address": "192.0.2.7",
    "created_at": "2026-01-31T12:00:00Z",
}


class AuditEntryOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [_ENTRY]})

    id: str
    object: Literal["audit_entry"] = "audit_entry"
    action: Action
    target: str = Field(description="The id of the affected object, which may have been deleted since.")
    key: str = Field(description="The API key that did it.")
    address: str = Field(description="The client's address, as far as the service can tell.")
    created_at: datetime

    @classmethod
    def of(cls, row: AuditEntry) -> Self:
        return cls(
            id=row.id,
            action=Action(row.action),
            target=row.target_id,
            key=row.key_id,
            address=row.address,
            created_at=row.created_at,
        )
