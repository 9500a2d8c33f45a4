"""The header Idempotency-Key: a creating request that is repeated with it gets what the first one created."""

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.deps import CallerDep, DatabaseDep
from core.db import idempotency
from core.db.idempotency import Created, Get, KeyedRequest

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="A repeat with the same key and body returns the first answer, for 24 hours.",
    ),
]
REPLAYED = "Idempotent-Replayed"

Body = BaseModel | dict[str, Any]
"""As it was parsed; or its JSON, where a secret's value counts."""

P = ParamSpec("P")
T = TypeVar("T", bound=Created)


class Once:
    """A creating request and its Idempotency-Key, if it has one. An answer to a repeat says so in a header."""

    def __init__(
        self,
        request: Request,
        response: Response,
        caller: CallerDep,
        database: DatabaseDep,
        idempotency_key: IdempotencyKey = None,
    ) -> None:
        self._tenant_id, self._database, self._response = caller.tenant_id, database, response
        path = request.scope["route"].path.format(**request.path_params)
        self._route, self._key = f"{request.method} {path}", idempotency_key

    async def find(self, body: Body, get: Get[T]) -> T | None:
        """What the request has created before. For those that take long to prepare ``create``, or whose repeats must
        not depend on what has changed since. Raises IdempotencyMismatch."""
        if (request := self._identify(body)) is None:
            return None
        original = await self._database.run(idempotency.find_original, request, get)
        if original is not None:
            self._say_replayed()
        return original

    async def create(
        self,
        body: Body,
        get: Get[T],
        insert: Callable[Concatenate[Session, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """What ``insert(session, …)`` returns, or what the request has created before, by ``get`` of the tenant and
        the id. Raises IdempotencyMismatch, and what ``insert`` raises."""
        row, is_replayed = await self._database.run(
            lambda session: idempotency.create_once(
                session, self._identify(body), get, lambda: insert(session, *args, **kwargs)
            )
        )
        if is_replayed:
            self._say_replayed()
        return row

    def _identify(self, body: Body) -> KeyedRequest | None:
        if self._key is None:
            return None
        return KeyedRequest(self._tenant_id, self._route, self._key, hash_body(body))

    def _say_replayed(self) -> None:
        self._response.headers[REPLAYED] = "true"


OnceDep = Annotated[Once, Depends()]


def hash_body(body: Body) -> str:
    """Over the parsed body, so that spaces and the order of fields do not count. Of a model's secrets it covers whether
    there are any, and not their values: a guessable one could be guessed by whoever reads the hash in the database."""
    dumped = body.model_dump(mode="json", exclude_unset=True) if isinstance(body, BaseModel) else body
    return hashlib.sha256(json.dumps(dumped, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
