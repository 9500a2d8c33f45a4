"""The API's bench with small sizes, on real servers: every request is answered, no event is missed."""

import asyncio
from collections.abc import Iterator

import pytest

from bench.api.load import Load, run_load, write_request
from bench.api.routes import Goal, Route, measure_routes
from bench.api.stack import Stack, open_stack
from bench.api.streams import measure_streams
from bench.api.uploads import Uploads, measure_uploads


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with open_stack(num_jobs=50, num_uploads=4) as opened:
        yield opened


@pytest.mark.slow
def test_streams_routes_and_uploads(stack: Stack) -> None:
    streams = measure_streams(stack, clients=10, num_jobs=2, num_events=3)
    assert streams.num_wrong == 0 and len(streams.delays) == 9 * 3  # one of ten reconnects, and is not timed
    assert all(0 < delay < 60 for delay in streams.delays)
    lines = measure_routes(stack, num_jobs=50, connections=2, seconds=0.5)
    assert len(lines) == 5 and all(line.count("|") == 7 for line in lines[1:])
    made = measure_uploads(stack, 4, 2 * 1024**2)
    assert (made.count, made.size) == (4, 2 * 1024**2) and made.grown >= 0 and made.seconds > 0


@pytest.mark.slow
def test_a_refusal_is_no_quick_answer(stack: Stack) -> None:
    request = write_request("GET", f"/jobs/{stack.job}", "a wrong key")
    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(run_load(stack.api.port, lambda: request, 200, 1, 5))
    assert raised.group_contains(AssertionError, match="401")


def test_a_route_is_held_against_its_goal() -> None:
    route = Route("`GET /x`", lambda: b"", goal=Goal(p99_ms=60, per_second=80))
    load = Load([0.01] * 98 + [0.05, 0.07], seconds=1.0)
    noop = Load([0.001] * 400, seconds=1.0)
    assert (
        route.describe(load, noop)
        == "| `GET /x` | 80/s, p99 60 ms | 100/s (25% of the first) | 10.0 ms | 50.0 ms | yes |"
    )
    assert route.describe(Load([0.01] * 50, 1.0), noop).endswith("| **no** |")


def test_growth_is_held_against_its_goal() -> None:
    assert (
        Uploads(32, 256 * 1024**2, 100 * 1024**2, 10.0).describe()[-1].endswith("| 100 MiB | 10.0 s, 819 MiB/s | yes |")
    )
    assert Uploads(32, 256 * 1024**2, 200 * 1024**2, 10.0).describe()[-1].endswith("| **no** |")
