"""Waits for the service's background work and says how it ended; repeats calls while the service does not answer."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

from atelier_client.errors import ClientError, WaitTimeout, is_passing
from atelier_client.models import Dataset, Job

Result = TypeVar("Result")

POLL_SECONDS = 0.5
RETRY_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Their sum is about the time in which a service restarts."""


class Ending(Protocol):
    """A captioning or a generation."""

    @property
    def status(self) -> str: ...

    @property
    def is_terminal(self) -> bool: ...


Work = TypeVar("Work", bound=Ending)


class Deferrable(Protocol):
    """A dataset, an adapter or a check of adapters: the service can postpone it."""

    @property
    def waiting_reason(self) -> str | None: ...


def retry(call: Callable[[], Result]) -> Result:
    """Repeats an idempotent call after a temporary failure."""
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
    """Returns the first answer that is not pending, and calls ``on_pending`` with each of the others. Raises
    WaitTimeout with a message that begins with ``what``."""
    started = time.monotonic()
    while is_pending(result := retry(fetch)):
        on_pending(result)
        if timeout_seconds is not None and time.monotonic() - started > timeout_seconds:
            raise WaitTimeout(f"{what} after {timeout_seconds:.0f} s.")
        time.sleep(POLL_SECONDS)
    return result


def follow(
    fetch: Callable[[float], Work],
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
        result = retry(partial(fetch, wait_seconds))
        if count(result) != last or result.is_terminal:
            on_update(result)
            last = count(result)
        if result.is_terminal:
            return result
        if time.monotonic() >= deadline:
            raise WaitTimeout(f"{what} is still {result.status}.")


def make_wait(longest_seconds: float, timeout_seconds: float | None) -> Callable[[], float]:
    """How long each call of a ``poll`` that begins now may wait at the service: never past the timeout."""
    if timeout_seconds is None:
        return lambda: longest_seconds
    deadline = time.monotonic() + timeout_seconds
    return lambda: max(0.0, min(longest_seconds, deadline - time.monotonic()))


def report_waiting(on_waiting: Callable[[str], object]) -> Callable[[Deferrable], None]:
    """For ``on_pending``: calls ``on_waiting`` once with each reason why the service has postponed the check."""
    last: str | None = None

    def report(checked: Deferrable) -> None:
        nonlocal last
        if checked.waiting_reason and checked.waiting_reason != last:
            on_waiting(last := checked.waiting_reason)

    return report


def explain_job(job: Job) -> str:
    if job.error is not None:
        return f"Job {job.id} failed. {job.error.title}: {job.error.detail}"
    return f"Job {job.id} was {job.status}."


def explain_dataset(dataset: Dataset) -> str:
    if dataset.status == "open":
        return f"Dataset {dataset.id} is still open: finalize it first."
    return dataset.error.detail if dataset.error else f"Dataset {dataset.id} is {dataset.status}."
