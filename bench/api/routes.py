"""Throughput and latency of the routes that clients ask most, beside a route that does nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from bench.api.load import Load, run_load, write_request
from bench.api.stack import Stack

WARMUP_SECONDS = 1.0


@dataclass(frozen=True)
class Goal:
    """``per_second`` at least, ``p99_ms`` at most."""

    p99_ms: float
    per_second: float = 0.0

    def __str__(self) -> str:
        rate = f"{self.per_second:g}/s, " if self.per_second else ""
        return f"{rate}p99 {self.p99_ms:g} ms"


@dataclass(frozen=True)
class Route:
    """``write``: the next request's bytes."""

    title: str
    write: Callable[[], bytes]
    status: int = 200
    goal: Goal | None = None

    def describe(self, load: Load, noop: Load) -> str:
        p50, p99 = (load.percentile_ms(share) for share in (0.5, 0.99))
        goal, reached = self.goal, ""
        if goal is not None:
            reached = "yes" if p99 <= goal.p99_ms and load.per_second >= goal.per_second else "**no**"
        share = f"{load.per_second:,.0f}/s ({load.per_second / noop.per_second:.0%} of the first)"
        return f"| {self.title} | {goal or ''} | {share} | {p50:.1f} ms | {p99:.1f} ms | {reached} |"


HEADER = """| route | goal | answers | p50 | p99 | reached |
| --- | --- | --- | --- | --- | --- |"""


def list_routes(stack: Stack, num_jobs: int) -> list[Route]:
    """The first does nothing; the last makes the queue longer."""
    key = stack.api.api_key

    def fixed(method: str, path: str, api_key: str | None = None, body: object = None) -> Callable[[], bytes]:
        request = write_request(method, path, api_key, body)
        return lambda: request

    return [
        Route("`GET /healthz`, which does nothing", fixed("GET", "/healthz")),
        Route("`GET /jobs/{id}`", fixed("GET", f"/jobs/{stack.job}", key), goal=Goal(60, 800)),
        Route(f"`GET /jobs`, a page of {num_jobs:,}", fixed("GET", "/jobs", key), goal=Goal(100)),
        Route("`POST /jobs`", fixed("POST", "/jobs", key, stack.body), 201, Goal(150, 150)),
    ]


def measure_routes(stack: Stack, num_jobs: int, connections: int, seconds: float) -> list[str]:
    """Lines of a table."""
    lines, noop = [HEADER], None
    for route in list_routes(stack, num_jobs):
        port = stack.api.port
        asyncio.run(run_load(port, route.write, route.status, connections, min(WARMUP_SECONDS, seconds)))
        load = asyncio.run(run_load(port, route.write, route.status, connections, seconds))
        noop = noop or load
        lines.append(route.describe(load, noop))
    return lines
