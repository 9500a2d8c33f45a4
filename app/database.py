"""One transaction per call: ``await database.run(query, …)`` opens it, runs a synchronous query in it, commits.

It acts for the tenant of the request that it belongs to; outside of requests it sees no tenant's things.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from core.db.row_security import Actor, act_as
from core.db.session import make_async_sessions, open_async_engine
from core.domain.errors import Unavailable

TIMEOUT_SECONDS = 15.0

acting: ContextVar[Actor | None] = ContextVar("acting", default=None)
"""Whose request this is. The gate sets it, and so does the dashboard; nothing else does."""

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """No answer within ``timeout_seconds`` is Unavailable, also when the server is frozen rather than gone."""

    def __init__(self, url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._engine = open_async_engine(url)
        self._sessions = make_async_sessions(self._engine)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.timeout_seconds = timeout_seconds

    async def run(self, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs ``work(session, …)`` in a transaction of its own; what it returns may be read afterwards.

        Commits unless it raises. Raises Unavailable when the database does not answer.
        """
        # A task of its own: a client that hangs up in the middle does not leave the outcome open.
        task = asyncio.create_task(self._run(acting.get(), lambda session: work(session, *args, **kwargs)))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait({task}, timeout=self.timeout_seconds)
        if not done:
            task.cancel()
            raise Unavailable("The database did not answer in time. Try again in a few seconds.")
        return task.result()

    async def _run(self, actor: Actor | None, work: Callable[[Session], T]) -> T:
        try:
            async with self._sessions() as session, session.begin():
                if actor is not None:
                    await session.run_sync(act_as, actor)
                return await session.run_sync(work)
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise Unavailable("The database does not answer. Try again in a few seconds.") from error

    def _forget(self, task: asyncio.Task[Any]) -> None:
        """Also takes note of an error that nobody waits for any more, so that it is not reported as lost."""
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    async def close(self) -> None:
        """Lets what is under way end first."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.timeout_seconds)
        await self._engine.dispose()
