"""A job followed through everything that breaks a stream: each event once, in order, to the end."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from atelier_client import ApiError, AtelierClient, ConnectionFailed, Update, watching
from atelier_client.models import Job, JobEvent
from cli.local.ports import probe_port
from core.domain.states import Phase
from tests.atelier_client.faults import FaultyTransport, change_body
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ADAPTER, ScriptedJob
from tests.fixtures.servers import wait_for

WHOLE = ["job.queued", "job.running", "job.phase", "job.samples", "job.samples", "job.succeeded"]


def types_of(updates: list[Update]) -> list[str]:
    return [update.type for update in updates if isinstance(update, JobEvent)]


def steps_of(updates: list[Update]) -> list[int]:
    return [update.progress.step for update in updates if isinstance(update, Job) and update.progress]


def wait_until(updates: Iterator[Update], matches: Callable[[Update], bool]) -> list[Update]:
    """All up to the first that matches."""
    got = []
    for update in updates:
        got.append(update)
        if matches(update):
            return got
    raise AssertionError(f"it ended without that: {got}")


def at_step(step: int) -> Callable[[Update], bool]:
    return lambda update: isinstance(update, Job) and update.progress is not None and update.progress.step == step


def test_a_running_job_is_followed_live(client: AtelierClient, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    updates = client.watch(job.id)
    wait_until(updates, lambda update: isinstance(update, JobEvent))
    job.start()
    job.enter(Phase.TRAINING)
    for step in (10, 60):
        job.train_to(step)
        wait_until(updates, at_step(step))
    job.fail()
    rest = list(updates)
    assert types_of(rest)[-1] == "job.failed"
    assert client.get_job(job.id).is_terminal


def test_an_ended_job_yields_all_its_events_and_then_itself(client: AtelierClient, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    job.run_to_the_end()
    updates = list(client.watch(job.id))
    assert types_of(updates) == WHOLE
    assert updates[-1] == client.get_job(job.id)


def test_watching_goes_on_after_an_event(client: AtelierClient, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    job.run_to_the_end()
    events = list(client.list_events(job.id))
    assert types_of(list(client.watch(job.id, after=events[2].id))) == WHOLE[3:]
    assert types_of(list(client.watch(job.id, after=events[-1].id))) == []


def test_a_killed_service_loses_no_event(own_api: RunningApi) -> None:
    job = ScriptedJob(own_api)
    with AtelierClient(own_api.url, own_api.api_key) as client:
        outages: list[str] = []
        updates = client.watch(job.id, on_outage=lambda: outages.append("outage"))
        got = wait_until(updates, lambda update: isinstance(update, JobEvent))
        assert outages == []
        own_api.kill()
        watching = threading.Thread(target=lambda: got.extend(updates))
        watching.start()
        job.run_to_the_end()
        wait_for(lambda: outages)
        own_api.start()
        watching.join()
    assert types_of(got) == WHOLE
    assert outages == ["outage"], "once for each outage, and not for each attempt"


def move(api: RunningApi) -> None:
    """Restarts it on another port."""
    api.kill()
    api.port = probe_port("127.0.0.1", 0)
    api.start()


@pytest.mark.parametrize("streams", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_service_that_moved_is_followed(own_api: RunningApi, tmp_path: Path, streams: bool) -> None:
    job, first_url = ScriptedJob(own_api), own_api.url

    def block_streams(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        return response if streams or not is_stream(request) else httpx.Response(200, html="<h1>a proxy</h1>")

    transport = FaultyTransport(block_streams)
    with AtelierClient(first_url, own_api.api_key, transport=transport, find_url=lambda: own_api.url) as client:
        updates = client.watch(job.id)
        got = wait_until(updates, lambda update: isinstance(update, JobEvent))
        move(own_api)
        job.run_to_the_end()
        assert types_of([*got, *updates]) == WHOLE
        move(own_api)
        client.download_adapter(job.id, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == ADAPTER


def test_a_service_that_is_not_found_elsewhere_does_not_answer(running_api: RunningApi) -> None:
    gone = "http://127.0.0.1:1"
    for find_url in (lambda: None, lambda: gone, lambda: "http://127.0.0.1:2"):
        with (
            AtelierClient(gone, running_api.api_key, find_url=find_url) as client,
            pytest.raises(ConnectionFailed, match="No service answers at http"),
        ):
            next(client.list_jobs())


def is_stream(request: httpx.Request) -> bool:
    return "event-stream" in request.headers["accept"]


def break_after_each_block(blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield next(blocks)
    raise httpx.ReadError("the line broke")


def test_a_connection_that_breaks_after_every_message_loses_none(running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    job.run_to_the_end()

    def spoil(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        return change_body(response, break_after_each_block) if is_stream(request) else response

    with AtelierClient(running_api.url, running_api.api_key, transport=FaultyTransport(spoil)) as client:
        assert types_of(list(client.watch(job.id))) == WHOLE


def test_a_proxys_pages_are_waited_for(running_api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service behind it is started again after the first message."""
    monkeypatch.setattr(watching, "BACKOFF_SECONDS", (0.05,))
    job = ScriptedJob(running_api)
    job.run_to_the_end()
    answers, pages = list[httpx.Response](), [504, 503, 502]

    def spoil(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        answers.append(response)
        if len(answers) == 1:
            return change_body(response, break_after_each_block)
        if not pages:
            return response
        response.close()
        return httpx.Response(pages.pop(), html="<h1>nginx</h1>")

    with AtelierClient(running_api.url, running_api.api_key, transport=FaultyTransport(spoil)) as client:
        assert types_of(list(client.watch(job.id))) == WHOLE
    assert pages == []


def test_patience_with_a_proxys_pages_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PATIENCE_SECONDS", 0.5)
    proxy = httpx.MockTransport(lambda _: httpx.Response(502, html="<h1>nginx</h1>"))
    with AtelierClient("http://x", "atl_x", transport=proxy) as client, pytest.raises(ConnectionFailed, match="502"):
        list(client.watch("job_1"))


def test_it_polls_where_streams_are_blocked(running_api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that answers every stream with a page of its own."""
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.05)
    job = ScriptedJob(running_api)

    def spoil(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if not is_stream(request):
            return response
        response.close()
        return httpx.Response(200, headers={"content-type": "text/html"}, content=b"<html>")

    with AtelierClient(running_api.url, running_api.api_key, transport=FaultyTransport(spoil)) as client:
        updates = client.watch(job.id)
        got = wait_until(updates, lambda update: isinstance(update, Job))
        job.start()
        job.enter(Phase.TRAINING)
        job.sample(0)
        job.train_to(50)
        got += wait_until(updates, at_step(50))
        job.train_to(100, first=51)
        job.sample(100)
        job.succeed()
        got += list(updates)
    assert types_of(got) == WHOLE
    assert steps_of(got)[-1] == 100


def test_an_unknown_job_is_refused_at_once(client: AtelierClient) -> None:
    with pytest.raises(ApiError) as caught:
        list(client.watch("job_00000000000000000000000000"))
    assert caught.value.problem.status == 404


def test_patience_ends(own_api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PATIENCE_SECONDS", 0.5)
    job = ScriptedJob(own_api)
    with AtelierClient(own_api.url, own_api.api_key) as client:
        updates = client.watch(job.id)
        wait_until(updates, lambda update: isinstance(update, JobEvent))
        own_api.kill()
        with pytest.raises(ConnectionFailed):
            list(updates)
