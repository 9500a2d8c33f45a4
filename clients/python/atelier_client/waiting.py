"""Waits for what the service does in the background, and over the seconds in which it does not answer."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from atelier_client.errors import ClientError, WaitTimeout, is_passing

Result = TypeVar("Result")

POLL_SECONDS = 0.5
RETRY_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Together what a service takes to start again."""


class Deferrable(Protocol):
    """A dataset or an adapter, whose check can be put off."""

    @property
    def waiting_reason(self) -> str | None: ...


def retry(call: Callable[[], Result]) -> Result:
    """Repeats what can be repeated without harm, when the connection or a part of the service failed."""
    for pause_seconds in RETRY_PAUSES_SECONDS:
        try:
            return call()
        except ClientError as error:
            if not is_passing(error):
                raise
            time.sleep(pause_seconds)
    return call()


def poll(
    fetch: Callable[[], Result],
    is_pending: Callable[[Result], bool],
    *,
    timeout_seconds: float | None,
    what: str,
    on_pending: Callable[[Result], object] = lambda _: None,
) -> Result:
    """The first answer that is not pending. ``on_pending`` is called with each of the others. Raises WaitTimeout, in
    which ``what`` is said not to have come."""
    started = time.monotonic()
    while is_pending(result := retry(fetch)):
        on_pending(result)
        if timeout_seconds is not None and time.monotonic() - started > timeout_seconds:
            raise WaitTimeout(f"{what} after {timeout_seconds:.0f} s.")
        time.sleep(POLL_SECONDS)
    return result


def report_waiting(on_waiting: Callable[[str], object]) -> Callable[[Deferrable], None]:
    """For ``on_pending``: calls ``on_waiting`` once with each reason why the service cannot go on for now."""
    last: str | None = None

    def report(checked: Deferrable) -> None:
        nonlocal last
        if checked.waiting_reason and checked.waiting_reason != last:
            on_waiting(last := checked.waiting_reason)

    return report
