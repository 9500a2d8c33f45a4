"""One reading serves all streams of a caller and job, and none of them misses anything."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from app import feed as feeds
from app.auth.service import Caller
from app.feed import KEPT, Feeds, News
from app.progress import ProgressHub
from core.domain.errors import NotFound, Unauthenticated, Unavailable

CALLER = Caller("key_1", "ten_1", frozenset(["read"]))
JOB = "job_1"


@dataclass
class Source:
    """A job's history, as a database has it. ``num_read``: how often it was read; ``error``: of the next readings."""

    num_events: int = 0
    step: int = 0
    has_ended: bool = False
    num_read: int = 0
    error: Exception | None = None
    seconds: float = 0.0
    batch: int = 200
    steps_a_reading: int = 0
    cursors: list[int] = field(default_factory=list)

    async def read(self, after: int) -> News:
        self.num_read += 1
        self.step += self.steps_a_reading
        self.cursors.append(after)
        if self.error is not None:
            raise self.error
        seqs = range(after + 1, min(self.num_events, after + self.batch) + 1)
        events, step, has_more = [(seq, b"<%d>" % seq) for seq in seqs], self.step, len(seqs) == self.batch
        ended = self.has_ended and not has_more
        await asyncio.sleep(self.seconds)
        return News(events, step, b"[%d]" % step, has_more, ended)


@dataclass
class Stage:
    source: Source
    hub: ProgressHub
    feeds: Feeds

    def follow(self, after: int = 0, caller: Caller = CALLER) -> AsyncGenerator[bytes, None]:
        return self.feeds.follow(caller, JOB, after, self.source.read)

    def change(self, num_events: int, *, ends: bool = False) -> None:
        self.source.num_events, self.source.step, self.source.has_ended = num_events, num_events, ends
        self.hub.announce(JOB)


def play(scene: Callable[[Stage], Coroutine[Any, Any, None]], source: Source | None = None) -> None:
    """With polls an hour apart, and a broker that is away: only what is announced here is heard."""

    async def run() -> None:
        hub = ProgressHub("redis://127.0.0.1:1/0")
        hub.poll_seconds = 3600
        try:
            await asyncio.wait_for(scene(Stage(source or Source(), hub, Feeds(hub))), 30)
        finally:
            await hub.close()

    asyncio.run(run())


async def read_all(stream: AsyncGenerator[bytes, None]) -> bytes:
    return b"".join([part async for part in stream])


def events_in(text: bytes) -> list[int]:
    return [int(part.partition(b">")[0]) for part in text.split(b"<")[1:]]


def test_a_change_is_read_once_for_all() -> None:
    async def scene(stage: Stage) -> None:
        streams = [stage.follow() for _ in range(50)]
        assert await asyncio.gather(*map(anext, streams)) == [b"<1>[0]"] * 50
        before = stage.source.num_read
        stage.change(2)
        assert await asyncio.gather(*map(anext, streams)) == [b"<2>[2]"] * 50
        assert stage.source.num_read == before + 1
        stage.change(3, ends=True)
        assert await asyncio.gather(*map(read_all, streams)) == [b"<3>"] * 50

    play(scene, Source(num_events=1))


def test_a_stream_begins_with_what_is_true_when_it_comes() -> None:
    """A change that nobody has announced, such as one of a worker whose message was lost."""

    async def scene(stage: Stage) -> None:
        first = stage.follow()
        assert await anext(first) == b"<1>[0]"
        stage.source.num_events = stage.source.step = 2
        assert await anext(stage.follow(1)) == b"<2>[2]"
        assert await anext(first) == b"<2>[2]"

    play(scene, Source(num_events=1))


def test_a_reading_under_way_is_not_taken_for_one_that_begins_now() -> None:
    async def scene(stage: Stage) -> None:
        first = stage.follow()
        assert await anext(first) == b"<1>[0]"
        stage.hub.announce(JOB)
        await asyncio.sleep(0.05)  # it is being read
        stage.source.num_events = 2
        assert await anext(stage.follow()) == b"<1><2>[0]"

    play(scene, Source(num_events=1, seconds=0.1))


@pytest.mark.parametrize("cursor", [0, 3, 300, KEPT + 301, 10**14])
def test_who_comes_back_gets_the_rest(cursor: int) -> None:
    """Of a feed that began elsewhere, and holds the last events only."""
    total = KEPT + 301

    async def scene(stage: Stage) -> None:
        ahead = stage.follow(250)
        await anext(ahead)
        stage.change(total)
        late = stage.follow(cursor)
        got = await anext(late) if cursor < total else b""
        stage.change(total + 1, ends=True)
        got += await read_all(late)
        assert events_in(got) == list(range(cursor + 1, total + 2))
        await ahead.aclose()

    play(scene, Source(num_events=251, batch=50))


def test_a_slow_client_reads_for_itself_and_misses_nothing() -> None:
    async def scene(stage: Stage) -> None:
        slow, quick = stage.follow(), stage.follow()
        seen = {slow: await anext(slow), quick: await anext(quick)}
        for number in range(2, KEPT * 2):
            stage.change(number)
            seen[quick] += await anext(quick)
        stage.change(KEPT * 2, ends=True)
        for stream in seen:
            seen[stream] += await read_all(stream)
            assert events_in(seen[stream]) == list(range(1, KEPT * 2 + 1))

    play(scene, Source(num_events=1))


def test_progress_does_not_step_back_for_who_was_behind() -> None:
    total = KEPT + 100

    async def scene(stage: Stage) -> None:
        ahead = stage.follow()
        while events_in(await anext(ahead))[-1] < total:
            pass
        late, got = stage.follow(), b""
        while got.count(b"<") != total:
            got += await anext(late)
        stage.hub.announce(JOB)
        got += await anext(late)
        steps = [int(part.partition(b"]")[0]) for part in got.split(b"[")[1:]]
        assert len(steps) > 2 and steps == sorted(steps)
        await asyncio.gather(ahead.aclose(), late.aclose())

    play(scene, Source(num_events=total, batch=40, steps_a_reading=1))


@pytest.mark.parametrize("error", [NotFound("deleted"), Unauthenticated("revoked")])
def test_all_streams_end_with_the_job_or_the_key(error: Exception) -> None:
    async def scene(stage: Stage) -> None:
        streams = [stage.follow() for _ in range(3)]
        await asyncio.gather(*map(anext, streams))
        stage.source.error = error
        stage.hub.announce(JOB)
        assert await asyncio.gather(*map(read_all, streams)) == [b""] * 3
        stage.source.error = None
        assert await anext(stage.follow()) == b"<1>[0]"  # a new feed, for a key that is valid

    play(scene, Source(num_events=1))


def test_callers_do_not_share_a_feed() -> None:
    """Each reading checks the key of its own."""

    async def scene(stage: Stage) -> None:
        other = Caller("key_2", "ten_2", frozenset(["read"]))
        await asyncio.gather(anext(stage.follow()), anext(stage.follow(caller=other)))
        assert stage.source.cursors.count(0) >= 2

    play(scene, Source(num_events=1))


def test_streams_wait_through_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "POLL_SECONDS", 0.01)

    async def scene(stage: Stage) -> None:
        stream = stage.follow()
        await anext(stream)
        stage.source.error = Unavailable("away")
        stage.change(2)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        stage.source.error = None
        stage.hub.announce(JOB)
        assert await waiting == b"<2>[2]"

    play(scene, Source(num_events=1))


def test_a_failed_reading_ends_the_streams_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(stage: Stage) -> None:
        stream = stage.follow()
        await anext(stream)
        stage.source.error = ZeroDivisionError("a fault of ours")
        stage.hub.announce(JOB)
        assert await read_all(stream) == b""
        await asyncio.sleep(0)
        assert "the stream of job job_1 has failed" in caplog.text

    play(scene, Source(num_events=1))


def test_nothing_is_read_when_nobody_follows() -> None:
    async def scene(stage: Stage) -> None:
        streams = [stage.follow(), stage.follow()]
        await asyncio.gather(*map(anext, streams))
        await streams[0].aclose()
        stage.change(2)
        assert await anext(streams[1]) == b"<2>[2]"
        await streams[1].aclose()
        await asyncio.sleep(0)
        before = stage.source.num_read
        stage.change(3)
        await asyncio.sleep(0.05)
        assert (stage.source.num_read, stage.feeds._open) == (before, {})

    play(scene, Source(num_events=1))
