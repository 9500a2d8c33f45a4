"""Tenants, as the API shows and receives them."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from app.deps import PLAIN
from core.db.tables import Tenant

TENANT_ID = "ten_01j9z1e5k7m9p1r3t5v7x9z1b3"
_TENANT: dict[str, Any] = {
    "id": TENANT_ID,
    "object": "tenant",
    "name": "the illustrators",
    "created_at": "2026-01-31T12:00:00Z",
}


class TenantRequest(BaseModel):
    """A new tenant. `POST /keys` with its id creates its first key."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "the illustrators"}]})

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=PLAIN)]


class TenantOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"examples": [_TENANT]})

    id: str
    object: Literal["tenant"] = "tenant"
    name: str
    created_at: datetime

    @classmethod
    def of(cls, row: Tenant) -> Self:
        return cls(id=row.id, name=row.name, created_at=row.created_at)
