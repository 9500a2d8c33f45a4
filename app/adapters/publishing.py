"""/adapters/{id}/publish and its publications: adapters on the Hugging Face Hub."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from app.adapters.schemas import Licence
from app.auth.service import Caller, check_still_valid
from app.deps import DEFAULT_PAGE, CallerDep, DatabaseDep, Id, Limit, ServicesDep, continue_after, needs_key, wait_for
from app.errors import ErrorOut
from app.idempotency import Once, OnceDep
from app.jobs.schemas import example
from app.openapi import problems
from app.pages import Page
from app.progress import UNANNOUNCED_POLL_SECONDS
from app.services import Services
from core.db import publications, quotas
from core.db.tables import DEFAULT_TENANT, Publication
from core.domain.errors import InvalidRequest, Unavailable, WrongState
from core.domain.ids import new_id
from core.domain.publication import REPO_ID, PublicationSpec, PublicationStatus, check_repo_id
from core.domain.secret_shares import MAX_SECRET_BYTES, split_secret
from core.secret_shares import put_share
from core.settings import Settings

router = APIRouter(prefix="/adapters", tags=["adapters"], dependencies=[needs_key])

RepoId = Annotated[str, Field(max_length=193, pattern=REPO_ID), AfterValidator(check_repo_id)]

_ADAPTER = "ad_01j9z3k8m4x7v2q5w6e8r9t0yc"
_ID = "pub_01j9z3k8m4x7v2q5w6e8r9t0yf"
EXAMPLE: dict[str, Any] = {
    "id": _ID,
    "object": "publication",
    "status": "published",
    "adapter": _ADAPTER,
    "repo_id": "studio/blip",
    "private": True,
    "overwrite": False,
    "base_model": None,
    "license": "openrail++",
    "url": "https://huggingface.co/studio/blip",
    "commit": "6f4fc8211f0d9b7a2c136f4ad41f1d0ed09c5e3a",
    "error": None,
    "waiting_reason": None,
    "created_at": "2026-01-31T12:01:14Z",
    "ended_at": "2026-01-31T12:01:20Z",
    "urls": {"self": f"/adapters/{_ADAPTER}/publications/{_ID}"},
}


class PublishRequest(BaseModel):
    """Where on the Hub an adapter goes, and by whose token."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"repo_id": "studio/blip", "private": True, "token": "hf_of_your_account"}]},
    )

    repo_id: RepoId = Field(description="The repository, `owner/name`. It is made if it does not exist.")
    private: bool = Field(True, description="Whether only its owners see the repository.", strict=True)
    overwrite: bool = Field(
        False, description="Whether to add a commit to a repository that exists with other files.", strict=True
    )
    base_model: RepoId | None = Field(
        None, description="The base's repository on the Hub, which the model card then names."
    )
    license: Licence | None = Field(None, description="The Hub's identifier. Default: the adapter's.")
    token: Annotated[SecretStr, Field(min_length=1, max_length=MAX_SECRET_BYTES)] | None = Field(
        None,
        description="A token of the Hub with the right to write. It is never stored whole, and erased after its use. "
        "Without one the operator's is used, for the operator's own tenant.",
        json_schema_extra={"pattern": "^[!-~]+$"},
    )


class PublicationUrls(BaseModel):
    """Where the publication is."""

    self: str = Field(description="The publication.")


class PublicationOut(BaseModel):
    """`publishing` until a worker has sent the files, then `published` with the ``url``, or `failed` with the
    ``error``."""

    model_config = example(EXAMPLE)

    id: str
    object: Literal["publication"] = "publication"
    status: PublicationStatus
    adapter: str = Field(description="The adapter's id, `ad_…`.")
    repo_id: str = Field(description="The repository on the Hub.")
    private: bool = Field(description="Whether only its owners see the repository.")
    overwrite: bool = Field(description="Whether a commit may be added to a repository with other files.")
    base_model: str | None = Field(description="The base's repository on the Hub, if it was given.")
    license: str | None = Field(description="The licence that was given; null: the adapter's.")
    url: str | None = Field(description="The repository's page; null until it is `published`.")
    commit: str | None = Field(description="The commit; null until it is `published`.")
    error: ErrorOut | None
    waiting_reason: str | None = Field(description="Why it is deferred, through no fault of the adapter.")
    created_at: datetime
    ended_at: datetime | None = Field(description="Time of its end (UTC); null until then.")
    urls: PublicationUrls

    @classmethod
    def of(cls, row: Publication) -> Self:
        names = ("id", "status", "url", "commit", "error", "waiting_reason", "created_at", "ended_at")
        shown = {name: getattr(row, name) for name in names}
        url = f"/adapters/{row.adapter_id}/publications/{row.id}"
        return cls.model_validate({**shown, **row.spec, "adapter": row.adapter_id, "urls": {"self": url}})


Wait = Annotated[float, wait_for("its end")]


@router.post(
    "/{adapter_id}/publish", status_code=202, responses=problems("not-found", "wrong-state", "idempotency-mismatch")
)
async def publish_adapter(
    adapter_id: Id,
    body: PublishRequest,
    caller: CallerDep,
    services: ServicesDep,
    once: OnceDep,
    response: Response,
) -> PublicationOut:
    """Sends the adapter's files to a repository of the Hugging Face Hub, with a model card and the sample images of its
    job. A worker does it: `GET /adapters/{id}/publications/{publication_id}` says how it ends."""
    row = await publish(services, once, caller, adapter_id, body)
    services.doorbell.ring("validate")
    shown = PublicationOut.of(row)
    response.headers["Location"] = shown.urls.self
    return shown


@router.get("/{adapter_id}/publications", responses=problems("not-found"))
async def list_publications(
    adapter_id: Id,
    caller: CallerDep,
    database: DatabaseDep,
    after: Annotated[str | None, continue_after("pub")] = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[PublicationOut]:
    """Newest first."""
    rows, has_more = await database.run(
        publications.list_publications, caller.tenant_id, adapter_id, after=after, limit=limit
    )
    return Page[PublicationOut].of([PublicationOut.of(row) for row in rows], lambda row: row.id, has_more=has_more)


@router.get("/{adapter_id}/publications/{publication_id}", responses=problems("not-found"))
async def get_publication(
    adapter_id: Id, publication_id: Id, caller: CallerDep, services: ServicesDep, wait: Wait = 0
) -> PublicationOut:
    """One publication as it is now or, with `wait`, as soon as it has ended."""
    return PublicationOut.of(await _wait_for_end(services, caller, adapter_id, publication_id, wait))


# --- below: the service ---------------------------------------------------------------------------------------


async def publish(
    services: Services, once: Once, caller: Caller, adapter_id: str, asked: PublishRequest
) -> Publication:
    """Raises NotFound, WrongState, InvalidRequest, IdempotencyMismatch, QuotaExceeded, and Unavailable if the token
    cannot be kept."""

    def get(session: Session, tenant_id: str, publication_id: str) -> Publication:
        return publications.get_publication(session, tenant_id, adapter_id, publication_id)

    if (original := await once.find(asked, get)) is not None:  # before a share of its token is kept in vain
        return original
    settings = services.settings
    _check_allowed(settings, caller, asked)
    publication_id, share = new_id("pub"), None
    if asked.token is not None:
        other, share = split_secret(asked.token.get_secret_value())
        try:
            await put_share(settings.redis_url, publication_id, other)
        except RedisError:
            raise Unavailable("The broker does not respond. Try again in a few seconds.") from None
    return await once.create(asked, get, _insert, settings, caller.tenant_id, adapter_id, asked, publication_id, share)


def _check_allowed(settings: Settings, caller: Caller, asked: PublishRequest) -> None:
    if settings.hub_url is None:
        raise WrongState("Publishing is turned off on this service. Ask its operator to set ATELIER_HUB_URL.")
    if asked.token is None and (settings.hub_token is None or caller.tenant_id != DEFAULT_TENANT):
        raise InvalidRequest("Send a token of the Hub that may write.", {"/token": ["is needed"]})
    if asked.token is not None and not _is_header(asked.token.get_secret_value()):
        message = "has characters that no token has"
        raise InvalidRequest("The token has characters that no token has: copy it again.", {"/token": [message]})


def _is_header(token: str) -> bool:
    return all("!" <= char <= "~" for char in token)


def _insert(
    session: Session,
    settings: Settings,
    tenant_id: str,
    adapter_id: str,
    asked: PublishRequest,
    publication_id: str,
    share: bytes | None,
) -> Publication:
    quotas.lock_limits(session, tenant_id, settings.default_limits)
    spec = PublicationSpec.model_validate(asked.model_dump(exclude={"token"}))
    return publications.insert_publication(
        session, tenant_id, adapter_id, spec, publication_id=publication_id, token_share=share
    )


async def _wait_for_end(
    services: Services, caller: Caller, adapter_id: str, publication_id: str, seconds: float
) -> Publication:
    """The publication once it has ended, or when the time is up."""
    return await services.progress.wait_until(
        publication_id,
        partial(services.database.run, _read, caller, adapter_id, publication_id),
        lambda row: row.status != PublicationStatus.PUBLISHING,
        seconds,
        UNANNOUNCED_POLL_SECONDS,
    )


def _read(session: Session, caller: Caller, adapter_id: str, publication_id: str) -> Publication:
    """Raises NotFound, Unauthenticated."""
    check_still_valid(session, caller)
    return publications.get_publication(session, caller.tenant_id, adapter_id, publication_id)
