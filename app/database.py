"""One transaction per call: ``await database.run(query, …)`` opens it, runs a synchronous query in it, commits.

It acts for the tenant of its request; outside of requests it sees no tenant's rows.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from core.db.row_security import Actor, act_as
from core.db.session import make_async_sessions, open_async_engine
from core.domain.errors import Unavailable

TIMEOUT_SECONDS = 15.0

acting: ContextVar[Actor | None] = ContextVar("acting", default=None)
"""The tenant whose request this is. Only the gate and the dashboard set it."""

P = ParamSpec("P")
T = TypeVar("T")


class Opened:
    """A transaction that acts for its caller already, and waits for its work."""

    def __init__(self, session: AsyncSession) -> None:
        self._session: AsyncSession | None = session

    def take(self) -> AsyncSession | None:
        """None if it was taken before."""
        session, self._session = self._session, None
        return session


opened: ContextVar[Opened | None] = ContextVar("opened", default=None)
"""The transaction in which the gate found the caller: the request's first work goes on in it. Only the gate sets it."""


@dataclass(frozen=True)
class _Transaction:
    """``actor``: for whom it acts from its start; None if its work finds that out, or if it was opened before."""

    session: AsyncSession
    actor: Actor | None

    async def run(self, work: Callable[[Session], T], *, commit: bool = True) -> T:
        """Without ``commit`` it stays open, unless the work raises. All of it is one switch between the event loop and
        the synchronous code."""

        def whole(session: Session) -> T:
            done = False
            try:
                if self.actor is not None:
                    act_as(session, self.actor)
                found = work(session)
                if commit:
                    session.commit()
                done = True
                return found
            finally:
                if commit or not done:
                    session.close()

        try:
            return await self.session.run_sync(whole)
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise Unavailable("The database does not respond. Try again in a few seconds.") from error


class Database:
    """No answer within ``timeout_seconds`` becomes Unavailable, even if the server is frozen rather than gone."""

    def __init__(self, url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._engine = open_async_engine(url)
        self._sessions = make_async_sessions(self._engine)
        self._tasks: set[asyncio.Task[Any]] = set()
        self.timeout_seconds = timeout_seconds

    async def run(self, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs ``work(session, …)`` in a transaction of its own, or in the one that the gate has opened for the
        request; its return value may be read afterwards.

        Commits unless it raises. Raises Unavailable if the database does not respond.
        """
        waiting = opened.get()
        session = waiting.take() if waiting is not None else None
        begun = _Transaction(self._sessions(), acting.get()) if session is None else _Transaction(session, None)
        return await self._finish(self._start(begun.run(lambda session: work(session, *args, **kwargs))))

    async def open(
        self, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[T, Opened]:
        """Runs ``work``, which only reads, in a transaction that stays open: for the request's first work, or to be
        ended. Raises as ``run``, and nothing is open then."""
        session = self._sessions()
        begun = _Transaction(session, acting.get())
        running = self._start(begun.run(lambda session: work(session, *args, **kwargs), commit=False))
        try:
            return await self._finish(running), Opened(session)
        except BaseException:
            self._start(self._abandon(running, session))
            raise

    @staticmethod
    async def _abandon(running: asyncio.Task[Any], session: AsyncSession) -> None:
        """Nobody waits for it any more, whether it has ended by now or not."""
        await asyncio.wait({running})
        await session.close()

    async def end(self, left: Opened) -> None:
        """If nobody has taken it. Nothing is lost with a connection that broke meanwhile: the work only read."""
        if (session := left.take()) is not None:
            with suppress(OperationalError, InterfaceError):
                await self._finish(self._start(session.close()))

    def _start(self, running: Coroutine[None, None, T]) -> asyncio.Task[T]:
        """A task of its own: a client that hangs up in the middle does not leave the outcome uncertain."""
        task = asyncio.create_task(running)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def _finish(self, task: asyncio.Task[T]) -> T:
        done, _ = await asyncio.wait({task}, timeout=self.timeout_seconds)
        if not done:
            task.cancel()
            raise Unavailable("The database did not respond in time. Try again in a few seconds.")
        return task.result()

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
