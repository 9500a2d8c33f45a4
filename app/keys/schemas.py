"""Keys, as the API shows and receives them."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from app.deps import PLAIN
from app.tenants.schemas import TENANT_ID
from core.db.tables import ApiKey
from core.domain.keys import Scope
from core.domain.numbers import StrictInt, StrictNumbers

MAX_OVERLAP_SECONDS = 24 * 3600
OVERLAP_SECONDS = 3600

_TIME = "2026-01-31T12:00:00Z"
_KEY: dict[str, Any] = {
    "id": "key_01j9z2c4e6g8k0n2q4s6u8w0y2",
    "object": "key",
    "name": "the build server",
    "prefix": "atl_1a2B",
    "scopes": ["read", "jobs"],
    "tenant": TENANT_ID,
    "created_at": _TIME,
    "expires_at": None,
    "last_used_at": _TIME,
    "revoked_at": None,
}
_SECRET = "atl_1a2Bc3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V2w3x4y5z"  # noqa: S105 - an example, and no valid one

TenantId = Annotated[str, Field(min_length=1, max_length=100, pattern=PLAIN)]


class KeyRequest(BaseModel):
    """The new key's name, scopes and expiry. The operator may name another ``tenant``."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "the build server", "scopes": ["read", "jobs"], "expires_at": None}]},
    )

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=PLAIN)]
    scopes: Annotated[
        list[Scope],
        Field(
            min_length=1,
            max_length=3,
            description="`read` reads, `jobs` changes datasets, jobs, adapters and webhooks, `admin` does everything.",
        ),
    ] = ["read", "jobs"]
    expires_at: AwareDatetime | None = Field(None, description="In the future; null: never.")
    tenant: TenantId | None = Field(None, description="For the operator; by default your own.")

    @field_validator("scopes")
    @classmethod
    def _name_each_once(cls, scopes: list[Scope]) -> list[Scope]:
        return sorted(set(scopes), key=scopes.index)

    @field_validator("expires_at")
    @classmethod
    def _lies_ahead(cls, moment: datetime | None) -> datetime | None:
        if moment is None:
            return None
        try:
            if moment.astimezone(UTC) <= datetime.now(UTC):
                raise ValueError("must be in the future")
        except OverflowError:
            raise ValueError("must be before the year 10000, in UTC too") from None
        return moment


class RotationRequest(StrictNumbers):
    """How long the old key stays valid beside the new one."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"overlap_seconds": 3600}]})

    overlap_seconds: Annotated[
        StrictInt, Field(ge=0, le=MAX_OVERLAP_SECONDS, description="0: it ends at once, for example if it leaked.")
    ] = OVERLAP_SECONDS


class KeyOut(BaseModel):
    """A key without its secret; the service keeps only a hash. ``prefix`` is the start of the secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KEY]})

    id: str
    object: Literal["key"] = "key"
    name: str
    prefix: str
    scopes: list[Scope]
    tenant: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")
    revoked_at: datetime | None

    @classmethod
    def of(cls, row: ApiKey, **more: Any) -> Self:
        return cls(
            id=row.id,
            name=row.name,
            prefix=row.prefix,
            scopes=row.scopes,
            tenant=row.tenant_id,
            created_at=row.created_at,
            expires_at=row.expires_at,
            last_used_at=row.last_used_at,
            revoked_at=row.revoked_at,
            **more,
        )


class NewKey(KeyOut):
    """A new key with its secret, which is shown only once."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_KEY, "last_used_at": None, "secret": _SECRET}]})

    secret: str
