"""Made from ``atelier_client.waiting`` by ``scripts/make_async_client.py``: change that, and run it again."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from atelier_client.errors import ClientError, WaitTimeout, is_passing
from atelier_client.waiting import (
    POLL_SECONDS,
    RETRY_PAUSES_SECONDS,
    Result,
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
