"""How long a queued job waits: for the running jobs, and for those ahead of it."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """In a tenant's own queue. ``number`` counts from 1, the next to start; ``starts_in_seconds`` is None if the jobs
    ahead were never measured."""

    number: int
    starts_in_seconds: float | None

    def ends_in(self, estimated: float | None) -> float | None:
        """Seconds until the end of a job that takes ``estimated``."""
        if self.starts_in_seconds is None or estimated is None:
            return None
        return round(self.starts_in_seconds + estimated, 1)


def find_starts(running: Sequence[float | None], waiting: Sequence[float | None], num_slots: int) -> list[float | None]:
    """Seconds until each of the waiting jobs starts, in their order; each takes the first free slot.

    ``running``: the remaining seconds of each running job; ``waiting``: the seconds that each will take. After the
    first unknown one, all are unknown.
    """
    slots = max(1, num_slots, len(running))
    if None in running:
        return [None] * len(waiting) if len(running) >= slots else _follow([0.0] * (slots - len(running)), waiting)
    known = [seconds for seconds in running if seconds is not None]
    return _follow([*known, *[0.0] * (slots - len(known))], waiting)


def _follow(free_in: list[float], waiting: Sequence[float | None]) -> list[float | None]:
    heapq.heapify(free_in)
    starts: list[float | None] = []
    for seconds in waiting:
        starts.append(free_in[0])
        if seconds is None:
            break
        heapq.heapreplace(free_in, free_in[0] + seconds)
    return starts + [None] * (len(waiting) - len(starts))


def estimate_left(estimated: float | None, worked: float, eta: float | None) -> float | None:
    """For a running job: the rest of its estimate, and at least the time of its remaining steps at its current pace."""
    if estimated is None:
        return eta
    return max(estimated - worked, eta or 0.0, 0.0)
