"""Many clients that follow jobs by server-sent events: how late an event is, and whether one is missed."""

import asyncio
import json
import math
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx
from sqlalchemy.orm import Session

from bench.api.load import HOST
from bench.api.stack import Stack
from core.db.events import append_event
from core.db.job_claims import claim_of
from core.db.tables import DEFAULT_TENANT, Job
from core.domain.events import EventType
from core.queue import progress_channel
from tests.chaos.report import percentile

GOAL_SECONDS = 1.0
RECONNECTED = 0.1
"""The share of the clients that leave once and come back."""
WAIT_SECONDS = 180.0
LEASE_SECONDS = 3600.0
CONNECTING, RETRY_SECONDS = 16, 1.0
NUM_BEFORE = 2
"""Events of a job before those that are timed: that it is queued, and that it runs."""


@dataclass
class Reader:
    """One client of one job. ``door``: how many may be connecting at a time; ``refused``: how often the server was too
    busy for it. ``seen``: the numbers of the events, as they came; ``delays`` in seconds, of those that
    came while it was connected."""

    job: str
    leaves: bool
    door: asyncio.Semaphore
    refused: int = 0
    seen: list[int] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self, stack: Stack, until: int) -> None:
        """Until it has seen the event ``until``."""
        away = until // 2
        while not self.seen or self.seen[-1] < until:
            leave_at = away if self.leaves and not (self.seen and self.seen[-1] >= away) else until
            await self._read(stack, leave_at)

    async def _read(self, stack: Stack, until: int) -> None:
        reader, writer = await self._connect(stack)
        number = 0
        while not self.seen or self.seen[-1] < until:
            line = (await reader.readline()).strip()
            if line.startswith(b"id: "):
                number = int(line[4:])
            elif line.startswith(b"data: ") and number:
                self._take(number, json.loads(line[6:]))
                number = 0
        writer.close()

    async def _connect(self, stack: Stack) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Where the server is too busy for another client, it is asked again, as clients do."""
        head = [
            f"GET /jobs/{self.job}/events HTTP/1.1", f"Host: {HOST}", "Accept: text/event-stream",
            f"Authorization: Bearer {stack.api.api_key}", f"Last-Event-ID: {self.seen[-1] if self.seen else 0}",
        ]  # fmt: skip
        while True:
            async with self.door:
                reader, writer = await asyncio.open_connection(HOST, stack.api.port)
                writer.write("\r\n".join([*head, "", ""]).encode())
                status = await reader.readline()
            if b" 200 " in status:
                return reader, writer
            assert b" 503 " in status, status
            self.refused += 1
            writer.close()
            await asyncio.sleep(RETRY_SECONDS)

    def _take(self, number: int, event: dict[str, object]) -> None:
        self.seen.append(number)
        self.connected.set()
        data = event["data"]
        if isinstance(data, dict) and "message" in data:
            self.delays.append(time.time() - float(data["message"]))


@dataclass(frozen=True)
class Streams:
    """``delays`` in seconds; ``num_wrong``: clients that missed an event, or got one twice; ``num_refused``:
    connections that the server was too busy for, and that were made later."""

    clients: int
    jobs: int
    delays: list[float]
    num_wrong: int
    num_refused: int

    def describe(self) -> list[str]:
        p50, p99 = (percentile(self.delays, share) for share in (0.5, 0.99))
        reached = "yes" if p99 <= GOAL_SECONDS and not self.num_wrong else "**no**"
        return [
            "| clients | goal | event to client, p50 | p99 | with a gap or a repeat | refused at first | reached |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            f"| {self.clients:,} on {self.jobs} jobs, {RECONNECTED:.0%} of them reconnect | p99 {GOAL_SECONDS:g} s, no "
            f"gap | {p50:.3f} s | {p99:.3f} s | {self.num_wrong} | {self.num_refused} | {reached} |",
        ]


def measure_streams(stack: Stack, clients: int, num_jobs: int, num_events: int) -> Streams:
    """``num_events`` of each job, one a second of all jobs in turn."""
    allow_files(clients)
    jobs = [_start_job(stack, number) for number in range(num_jobs)]
    return asyncio.run(_measure(stack, jobs, clients, num_events))


def allow_files(count: int) -> None:
    """A connection is an open file; a process may have a thousand at first."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * count + 1024
    assert most in (resource.RLIM_INFINITY, -1) or wanted <= most, f"this system allows {most} open files"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[0]), most))


def _start_job(stack: Stack, number: int) -> str:
    """Submits a job and claims it, as the worker of another slot: nothing else may be queued."""
    made = httpx.post(f"{stack.api.url}/jobs", json=stack.body, headers=stack.headers).raise_for_status().json()
    with stack.api.sessions.begin() as session:
        job = claim_of(session, DEFAULT_TENANT, slot=f"bench:{number}", lease_seconds=LEASE_SECONDS)
        assert job is not None and job.id == made["id"]
    return str(made["id"])


async def _measure(stack: Stack, jobs: list[str], clients: int, num_events: int) -> Streams:
    """A job's first events tell that a client is connected."""
    leaving = math.ceil(clients * RECONNECTED)
    door = asyncio.Semaphore(CONNECTING)
    readers = [Reader(jobs[number % len(jobs)], number < leaving, door) for number in range(clients)]
    async with asyncio.TaskGroup() as group:
        for reader in readers:
            group.create_task(reader.follow(stack, NUM_BEFORE + num_events))
        await asyncio.wait_for(asyncio.gather(*(reader.connected.wait() for reader in readers)), WAIT_SECONDS)
        async with asyncio.timeout(WAIT_SECONDS + 2 * num_events):
            await _publish_all(stack, jobs, num_events)
    whole = list(range(1, NUM_BEFORE + num_events + 1))
    delays = [delay for reader in readers if not reader.leaves for delay in reader.delays]
    wrong, refused = sum(reader.seen != whole for reader in readers), sum(reader.refused for reader in readers)
    return Streams(clients, len(jobs), delays, wrong, refused)


async def _publish_all(stack: Stack, jobs: Iterable[str], num_events: int) -> None:
    for _ in range(num_events):
        for job in jobs:
            await asyncio.to_thread(_publish, stack, job)
        await asyncio.sleep(1)


def _publish(stack: Stack, job_id: str) -> None:
    """As a worker does it: an event in a transaction of its own, and then the news of it."""
    with stack.api.sessions.begin() as session:
        _append(session, job_id)
    stack.api.broker.publish(progress_channel(job_id), b"")


def _append(session: Session, job_id: str) -> None:
    session.get_one(Job, job_id, with_for_update=True)
    append_event(session, job_id, EventType.NOTICE, 1, {"message": repr(time.time())})
