"""One transaction per call: ``await database.run(query, …)`` opens it, runs a synchronous query in it, commits.

It acts for the tenant of its request; outside of requests it sees no tenant's rows.
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
"""The tenant whose request this is. Only the gate and the dashboard set it."""

P = ParamSpec("P")
T = TypeVar("T")


class Database:
    """No answer within ``timeout_seconds`` becomes Unavailable, even if the server is frozen rather than gone."""

    def __init__(self, url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._engine = open_async_engine(url)
        self._sessions = make_async_sessions(self._engine)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.timeout_seconds = timeout_seconds

    async def run(self, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs ``work(session, …)`` in a transaction of its own; its return value may be read afterwards.

        Commits unless it raises. Raises Unavailable if the database does not respond.
        """
        # A task of its own: a client that hangs up in the middle does not leave the outcome uncertain.
        task = asyncio.create_task(self._run(acting.get(), lambda session: work(session, *args, **kwargs)))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait({task}, timeout=self.timeout_seconds)
        if not done:
            task.cancel()
            raise Unavailable("The database did not respond in time. Try again in a few seconds.")
        return task.result()

    async def _run(self, actor: Actor | None, work: Callable[[Session], T]) -> T:
        try:
            async with self._sessions() as session, session.begin():
                if actor is not None:
                    await session.run_sync(act_as, actor)
                return await session.run_sync(work)
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise Unavailable("The database does not respond. Try again in a few seconds.") from error

    def _forget(self, task: asyncio.Task[Any]) -> None:
        """Also retrieves an error that has no waiter left, so that it is not reported as lost."""
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    async def close(self) -> None:
        """Lets running transactions finish first."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self.timeout_seconds)
        await self._engine.dispose()
