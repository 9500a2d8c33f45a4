"""Made from ``atelier_client.waiting`` by ``scripts/make_async_client.py``: change that, and run it again."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial

from atelier_client.errors import ClientError, WaitTimeout, is_passing
from atelier_client.waiting import (
    POLL_SECONDS,
    RETRY_PAUSES_SECONDS,
    Result,
    Work,
)


async def retry(call: Callable[[], Awaitable[Result]]) -> Result:
    """Repeats an idempotent call after a temporary failure."""
    for pause_seconds in RETRY_PAUSES_SECONDS:
        try:
            return await call()
        except ClientError as error:
            if not is_passing(error):
                raise
            await asyncio.sleep(pause_seconds)
    return await call()


async def poll(
    fetch: Callable[[], Awaitable[Result]],
    is_pending: Callable[[Result], bool],
    *,
    timeout_seconds: float | None,
    what: str,
    on_pending: Callable[[Result], object] = lambda _: None,
) -> Result:
    """Returns the first answer that is not pending, and calls ``on_pending`` with each of the others. Raises
    WaitTimeout with a message that begins with ``what``."""
    started = time.monotonic()
    while is_pending(result := await retry(fetch)):
        on_pending(result)
        if timeout_seconds is not None and time.monotonic() - started > timeout_seconds:
            raise WaitTimeout(f"{what} after {timeout_seconds:.0f} s.")
        await asyncio.sleep(POLL_SECONDS)
    return result


async def follow(
    fetch: Callable[[float], Awaitable[Work]],
    count: Callable[[Work], int],
    *,
    longest_seconds: float,
    timeout_seconds: float | None,
    what: str,
    on_update: Callable[[Work], object],
) -> Work:
    """Returns the answer that is terminal. ``fetch`` gets the seconds for which the service may hold its answer back,
    ``on_update`` each answer with another count than the last, and the terminal one. Raises WaitTimeout with a message
    that begins with ``what``."""
    deadline = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds
    last = -1
    while True:
        wait_seconds = max(0.0, min(longest_seconds, deadline - time.monotonic())) if last >= 0 else 0.0
        result = await retry(partial(fetch, wait_seconds))
        if count(result) != last or result.is_terminal:
            on_update(result)
            last = count(result)
        if result.is_terminal:
            return result
        if time.monotonic() >= deadline:
            raise WaitTimeout(f"{what} is still {result.status}.")
