"""The asynchronous client on a real API: what it is made from is tested by itself, so here is what being async adds."""

import asyncio
import hashlib
import inspect
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from atelier_client import (
    ApiError,
    AsyncAtelierClient,
    AtelierClient,
    ConnectionFailed,
    DownloadDamaged,
    InputError,
    JobEnded,
)
from atelier_client.models import Dataset, Job, JobEvent
from atelier_client.watching import SILENCE_SECONDS
from tests.fixtures.client import write
from tests.fixtures.drawing import drawer
from tests.fixtures.pictures import png
from tests.fixtures.running_api import ROOT, RunningApi
from tests.fixtures.scripted_job import ADAPTER, MODEL, ScriptedJob, claim_any, register_scripted_model
from tests.fixtures.servers import wait_for

__all__ = ["drawer"]

WHOLE = ["job.queued", "job.running", "job.phase", "job.samples", "job.samples", "job.succeeded"]
SPEC = {"model": MODEL.id, "trigger": "toy", "steps": 20}


def use(api: RunningApi, work: Callable[[AsyncAtelierClient], Awaitable[Any]], **options: Any) -> Any:
    async def run() -> Any:
        async with AsyncAtelierClient(api.url, api.api_key, **options) as client:
            return await work(client)

    return asyncio.run(run())


def test_it_is_what_the_script_makes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.make_async_client", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_it_has_every_call_of_the_synchronous_one() -> None:
    def list_calls(client: type) -> dict[str, list[str]]:
        functions = inspect.getmembers(client, inspect.isfunction)
        return {name: list(inspect.signature(one).parameters) for name, one in functions if name[0] != "_"}

    calls = list_calls(AtelierClient)
    assert calls == list_calls(AsyncAtelierClient) and len(calls) > 60
    plain = {name for name in calls if not inspect.iscoroutinefunction(getattr(AsyncAtelierClient, name))}
    watches = {"watch", "watch_activity", "watch_captioning"}
    assert plain == {name for name in calls if name.startswith("list_")} | watches | {"train"}


@pytest.mark.usefixtures("trainer", "validator")
def test_a_folder_becomes_an_adapter(running_api: RunningApi, tmp_path: Path) -> None:
    folder = write(tmp_path / "toys", {"a.png": png(0), "b.png": png(1)})

    async def work(client: AsyncAtelierClient) -> None:
        training = client.train(folder, SPEC)
        updates = [update async for update in training]
        assert isinstance(updates[0], Dataset) and updates[0].name == "toys"
        assert isinstance(updates[1], Job) and isinstance(updates[-1], Job)
        assert [update.type for update in updates if isinstance(update, JobEvent)] == WHOLE
        adapter = await training.result()
        assert (adapter.status, adapter.trigger, adapter.job) == ("ready", "toy", updates[-1].id)
        sha256 = await client.download_adapter_file(adapter.id, tmp_path / "a.safetensors")
        assert sha256 == hashlib.sha256(ADAPTER).hexdigest()
        assert (tmp_path / "a.safetensors").read_bytes() == ADAPTER
        again = client.train(folder, SPEC)
        assert (await again.result()).id != adapter.id
        assert again.job is not None and again.job.dataset == updates[0].id, "the same files are sent once"
        assert [one.id async for one in client.list_datasets()] == [updates[0].id]

    use(running_api, work)


@pytest.mark.usefixtures("validator")
def test_a_training_that_is_left_goes_on_with_the_same_job(running_api: RunningApi, tmp_path: Path) -> None:
    register_scripted_model(running_api)
    folder = write(tmp_path / "toys", {"a.png": png(0), "b.png": png(1)})

    async def work(client: AsyncAtelierClient) -> None:
        training, seen = client.train(folder, SPEC), list[str]()
        async for update in training:
            if isinstance(update, JobEvent):
                seen.append(update.type)
                break
        played = await asyncio.to_thread(claim_any, running_api)
        assert played is not None and training.job is not None
        await asyncio.to_thread(played.train_to_the_end)
        async for update in training:
            seen += [update.type] if isinstance(update, JobEvent) else []
        assert seen == WHOLE
        assert len([job async for job in client.list_jobs()]) == 1
        assert [update async for update in training] == []

    use(running_api, work)


def test_a_bad_spec_is_refused_before_anything_is_sent(running_api: RunningApi, tmp_path: Path) -> None:
    folder = write(tmp_path / "toys", {"a.png": png(0)})

    async def work(client: AsyncAtelierClient) -> None:
        with pytest.raises(ApiError, match="steps"):
            await client.train(folder, {**SPEC, "steps": -1}).result()
        with pytest.raises(InputError, match="no folder"):
            await client.train(tmp_path / "none", SPEC).result()
        assert [one async for one in client.list_datasets()] == []

    use(running_api, work)


def test_a_failed_training_says_why(running_api: RunningApi, tmp_path: Path) -> None:
    job = ScriptedJob(running_api)
    job.start()
    job.fail()

    async def work(client: AsyncAtelierClient) -> None:
        with pytest.raises(JobEnded, match="failed"):
            await client.wait_for_job(job.id)

    use(running_api, work)


def test_many_jobs_are_watched_at_once(running_api: RunningApi) -> None:
    """All in one thread, and each to its own end."""
    jobs = [ScriptedJob(running_api) for _ in range(3)]
    ended = list[int]()

    async def follow(client: AsyncAtelierClient, number: int) -> list[str]:
        types = [update.type async for update in client.watch(jobs[number].id) if isinstance(update, JobEvent)]
        ended.append(number)
        return types

    async def work(client: AsyncAtelierClient) -> None:
        following = asyncio.gather(*(follow(client, number) for number in range(3)))
        for number in range(3):
            await asyncio.to_thread(jobs[number].run_to_the_end)
            while number not in ended:
                await asyncio.sleep(0.02)
        assert await following == [WHOLE] * 3
        assert ended == [0, 1, 2]

    use(running_api, work)


def test_a_killed_service_loses_no_event(own_api: RunningApi) -> None:
    job, outages = ScriptedJob(own_api), list[str]()

    async def work(client: AsyncAtelierClient) -> list[str]:
        got = list[str]()

        async def follow() -> None:
            async for update in client.watch(job.id, on_outage=lambda: outages.append("outage")):
                got.extend([update.type] if isinstance(update, JobEvent) else [])

        following = asyncio.create_task(follow())
        while not got:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(own_api.kill)
        await asyncio.to_thread(job.run_to_the_end)
        await asyncio.to_thread(wait_for, lambda: bool(outages))
        await asyncio.to_thread(own_api.start)
        await following
        return got

    assert use(own_api, work) == WHOLE
    assert outages == ["outage"]


class Failing(httpx.AsyncBaseTransport):
    """Loses the answers to the first requests, after the service has done what they ask."""

    def __init__(self, num_lost: int) -> None:
        self.left, self.keys = num_lost, list[str | None]()
        self._real = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._real.handle_async_request(request)
        if request.method == "POST":
            self.keys.append(request.headers.get("idempotency-key"))
            if self.left:
                self.left -= 1
                await response.aclose()
                raise httpx.ReadError("the line broke")
        return response


def test_a_lost_answer_is_asked_for_again_under_the_same_key(
    running_api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atelier_client.aio.waiting.RETRY_PAUSES_SECONDS", (0.01, 0.01))
    dataset = ScriptedJob(running_api).dataset_id
    failing = Failing(2)

    async def work(client: AsyncAtelierClient) -> None:
        made = await client.create_job({**SPEC, "dataset": dataset})
        jobs = [job.id async for job in client.list_jobs()]
        assert jobs[0] == made.id and len(jobs) == 2, "one of the fixture's, and one that was asked for three times"

    use(running_api, work, transport=failing)
    assert len(failing.keys) == 3 and len(set(failing.keys)) == 1 and failing.keys[0]


def test_a_damaged_download_leaves_nothing(running_api: RunningApi, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("atelier_client.aio.waiting.RETRY_PAUSES_SECONDS", ())
    job = ScriptedJob(running_api)
    job.run_to_the_end()

    class Damaging(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await super().handle_async_request(request)
            if not request.url.path.endswith("/adapter"):
                return response
            content = await response.aread()
            await response.aclose()
            headers = {"ETag": response.headers["etag"]}
            return httpx.Response(200, headers=headers, content=content[:-1] + b"?")

    async def work(client: AsyncAtelierClient) -> None:
        with pytest.raises(DownloadDamaged):
            await client.download_adapter(job.id, tmp_path / "a.safetensors")

    use(running_api, work, transport=Damaging())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("drawer")
def test_images_come_for_pillow(running_api: RunningApi) -> None:
    async def work(client: AsyncAtelierClient) -> None:
        images = await client.generate({"model": MODEL.id, "prompts": ["a toy"], "num_images": 2}, timeout_seconds=60)
        assert len(images) == 2 and images[0].size[0] > 0
        assert await client.generate_png({"model": MODEL.id, "prompts": ["a toy"]}, timeout_seconds=60) == [png(0)]
        for generation in [one async for one in client.list_generations()]:
            await client.delete_generation(generation.id)

    use(running_api, work)


def test_nobody_there_is_a_client_error_and_a_wait_can_be_cancelled(running_api: RunningApi) -> None:
    async def fail(client: AsyncAtelierClient) -> None:
        with pytest.raises(ConnectionFailed, match="No service answers"):
            await client.get_job("job_1")

    use(running_api, lambda client: fail(AsyncAtelierClient("http://127.0.0.1:1", "atl_x")))
    job = ScriptedJob(running_api)

    async def work(client: AsyncAtelierClient) -> float:
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.wait_for_job(job.id), 0.5)
        return time.monotonic() - started

    assert use(running_api, work) < 5 < SILENCE_SECONDS
