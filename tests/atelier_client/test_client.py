"""Jobs over HTTP, and the error of each kind of trouble."""

import http.server
from typing import Any

import httpx
import pytest

from atelier_client import (
    ApiError,
    AtelierClient,
    ClientError,
    ConnectionFailed,
    InputError,
    JobEnded,
    UnexpectedAnswer,
)
from tests.atelier_client.faults import FaultyTransport
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import MODEL, ScriptedJob
from tests.fixtures.serving import serving


def body_of(job: ScriptedJob, **spec: Any) -> dict[str, Any]:
    return {"model": MODEL.id, "dataset": job.dataset_id, "steps": 50, **spec}


def test_a_job_is_created_read_and_listed(client: AtelierClient, running_api: RunningApi) -> None:
    first = ScriptedJob(running_api)
    made = client.create_job(body_of(first, name="mine", trigger="zap"))
    assert (made.status, made.name, made.model) == ("queued", "mine", MODEL.id)
    assert client.get_job(made.id).plan["trigger"] == "zap"
    assert [job.id for job in client.list_jobs()] == [made.id, first.id]
    assert [job.id for job in client.list_jobs(status="running")] == []
    assert [job.id for job in client.list_jobs(text="MINE")] == [made.id]


def test_lists_go_on_over_pages(client: AtelierClient, running_api: RunningApi) -> None:
    source = ScriptedJob(running_api)
    made = [client.create_job(body_of(source)).id for _ in range(24)]
    assert [job.id for job in client.list_jobs()] == [*reversed(made), source.id]


def test_a_plan_makes_no_job(client: AtelierClient, running_api: RunningApi) -> None:
    source = ScriptedJob(running_api)
    plan = client.plan_job(body_of(source, steps=7))
    assert plan.estimate.steps == 7
    assert len(list(client.list_jobs())) == 1


def test_an_answer_that_was_lost_makes_no_second_job(running_api: RunningApi) -> None:
    source = ScriptedJob(running_api)
    lost: list[int] = []

    def lose_two_answers(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if request.method == "POST" and len(lost) < 2:
            lost.append(response.status_code)
            response.read()
            response.close()
            raise httpx.ReadError("the line broke")
        return response

    transport = FaultyTransport(lose_two_answers)
    with AtelierClient(running_api.url, running_api.api_key, transport=transport) as client:
        made = client.create_job(body_of(source))
        assert lost == [201, 201]
        assert [job.id for job in client.list_jobs()] == [made.id, source.id]


def test_states_are_changed_and_refused(client: AtelierClient, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    assert client.pause_job(job.id).status == "paused"
    assert client.resume_job(job.id).status == "queued"
    assert client.cancel_job(job.id).status == "canceled"
    with pytest.raises(ApiError) as caught:
        client.pause_job(job.id)
    assert (caught.value.problem.status, caught.value.problem.slug) == (409, "wrong-state")


def test_what_a_job_left_is_listed(client: AtelierClient, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api, steps=2500)
    job.run_to_the_end()
    assert [metric.step for metric in client.list_metrics(job.id)] == list(range(1, 2501))
    assert [metric.step for metric in client.list_metrics(job.id, points=5)] == [1, 501, 1001, 1501, 2001, 2500]
    assert [samples.step for samples in client.list_samples(job.id)] == [0, 2500]
    events = [event.type for event in client.list_events(job.id)]
    assert events == ["job.queued", "job.running", "job.phase", "job.samples", "job.samples", "job.succeeded"]


def test_the_end_of_a_job_is_waited_for(client: AtelierClient, running_api: RunningApi) -> None:
    good, bad = ScriptedJob(running_api), ScriptedJob(running_api)
    good.run_to_the_end()
    heard: list[str] = []
    ended = client.wait_for_job(good.id, on_update=lambda update: heard.append(str(update)))
    assert (ended.id, ended.status) == (good.id, "succeeded")
    assert heard[0].startswith("job.queued") and heard[-1] == f"{good.id} succeeded, step 100 of 100"
    bad.start()
    bad.fail()
    with pytest.raises(JobEnded, match=r"Lower optimizer\.learning_rate") as caught:
        client.wait_for_job(bad.id)
    assert caught.value.job.status == "failed"
    canceled = ScriptedJob(running_api)
    client.cancel_job(canceled.id)
    with pytest.raises(JobEnded, match="was canceled"):
        client.wait_for_job(canceled.id)


def test_deliveries_are_listed_and_repeated(client: AtelierClient, running_api: RunningApi) -> None:
    source = ScriptedJob(running_api)
    made = client.create_job(body_of(source, webhook={"url": "https://hooks.example.com/"}))
    client.cancel_job(made.id)
    deliveries = list(client.list_deliveries(made.id))
    assert [(delivery.type, delivery.seq, delivery.status) for delivery in deliveries] == [
        ("job.queued", 1, "pending"),
        ("job.canceled", 2, "pending"),
    ]
    again = client.redeliver(made.id, deliveries[0].id)
    assert again.id == deliveries[0].id
    assert again.next_attempt_at is not None
    assert deliveries[0].next_attempt_at is not None
    assert again.next_attempt_at > deliveries[0].next_attempt_at
    with pytest.raises(ApiError):
        client.redeliver(made.id, "evt_none")


def test_a_refusal_carries_the_problem(client: AtelierClient, running_api: RunningApi) -> None:
    with pytest.raises(ApiError, match="rank") as caught:
        client.create_job(body_of(ScriptedJob(running_api), adapter={"rank": 0}))
    problem = caught.value.problem
    assert (problem.status, problem.slug) == (422, "invalid-spec")
    assert "/adapter/rank" in problem.errors


@pytest.mark.parametrize("key", [None, "atl_wrong"])
def test_a_missing_or_wrong_key_is_a_refusal(running_api: RunningApi, key: str | None) -> None:
    with AtelierClient(running_api.url, key) as client, pytest.raises(ApiError) as caught:
        client.get_job("job_1")
    assert caught.value.problem.status == 401


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x", "http://", "", "http://[::1"])
def test_an_invalid_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(InputError, match="is not an address"):
        AtelierClient(url, "atl_x")


def test_a_malformed_key_is_refused() -> None:
    with pytest.raises(InputError, match="copy it again"):
        AtelierClient("http://127.0.0.1:1", "atl_…")


def test_an_error_without_a_service_says_what_to_do() -> None:
    with AtelierClient("http://127.0.0.1:1", "atl_x") as client, pytest.raises(ConnectionFailed, match="atelier up"):
        client.get_job("job_1")


class SomethingElse(http.server.BaseHTTPRequestHandler):
    """A web server that is not Atelier."""

    def do_GET(self) -> None:
        self.send_response(404 if "missing" in self.path else 200)
        self.end_headers()
        self.wfile.write(b"<html>It works!</html>")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("job_id", ["job_1", "missing"])
def test_another_service_is_recognised(job_id: str) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SomethingElse)
    with serving(server) as url, AtelierClient(url, "atl_x") as client, pytest.raises(UnexpectedAnswer):
        client.get_job(job_id)


@pytest.mark.parametrize(
    ("status", "error"),
    [(502, ConnectionFailed), (503, ConnectionFailed), (504, ConnectionFailed), (500, UnexpectedAnswer)],
)
def test_a_proxys_error_page_is_a_failed_connection(status: int, error: type[ClientError]) -> None:
    proxy = httpx.MockTransport(lambda _: httpx.Response(status, html="<h1>nginx</h1>"))
    with (
        AtelierClient("http://x", "atl_x", transport=proxy) as client,
        pytest.raises(error, match=f"answered {status}"),
    ):
        client.get_job("job_1")


@pytest.mark.parametrize("status", [302, 303, 307, 308])
def test_a_redirect_that_changes_the_method_is_an_error(status: int) -> None:
    """Such as a proxy's to https: what was a DELETE comes there as a GET, and finds the job."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.scheme == "http":
            return httpx.Response(status, headers={"Location": str(request.url.copy_with(scheme="https"))})
        return httpx.Response(204 if request.method == "DELETE" else 200, json={})

    with AtelierClient("http://x", "atl_x", transport=httpx.MockTransport(answer)) as client:
        if status in (307, 308):
            client.delete_job("job_1")
            return
        with pytest.raises(UnexpectedAnswer, match="redirects to https://x/: set ATELIER_URL"):
            client.delete_job("job_1")


def test_a_malformed_id_stays_one_segment_of_the_path() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        return httpx.Response(404, json={"title": "Nothing here", "status": 404})

    with AtelierClient("http://x", "atl_x", transport=httpx.MockTransport(answer)) as client:
        for ask in (lambda: list(client.watch("a/../b?x=1")), lambda: client.get_job("a/../b?x=1")):
            with pytest.raises(ApiError):
                ask()
    assert asked == ["/jobs/a%2F..%2Fb%3Fx%3D1/events", "/jobs/a%2F..%2Fb%3Fx%3D1"]


def test_the_environments_proxy_is_not_asked_for_this_machine(
    running_api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    job = ScriptedJob(running_api)
    with AtelierClient(running_api.url, running_api.api_key) as client:
        assert client.get_job(job.id).id == job.id


def test_a_rate_limit_is_waited_for(own_api: RunningApi) -> None:
    own_api.kill()
    own_api.env.update(ATELIER_RATE_BURST="2", ATELIER_RATE_PER_MINUTE="60")
    own_api.start()
    with AtelierClient(own_api.url, own_api.api_key) as client:
        assert [list(client.list_jobs()) for _ in range(5)] == [[]] * 5
        limited = httpx.get(f"{own_api.url}/jobs", headers={"Authorization": f"Bearer {own_api.api_key}"})
        assert limited.status_code == 429, "there was something to wait for"
        job = ScriptedJob(own_api)
        job.run_to_the_end()
        while httpx.get(f"{own_api.url}/jobs", headers={"Authorization": f"Bearer {own_api.api_key}"}).is_success:
            pass
        assert list(client.watch(job.id))[-1].id == job.id, "streams wait too"


def test_a_link_whose_answer_was_lost_is_made_anew(running_api: RunningApi, client: AtelierClient) -> None:
    """Nobody has the lost address, and the service does not show it again."""
    job = ScriptedJob(running_api)
    job.run_to_the_end()
    [adapter] = [each for each in client.list_adapters() if each.job == job.id]
    lost: list[str] = []

    def lose_one_answer(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if request.method == "POST" and not lost:
            response.read()
            lost.append(response.json()["id"])
            response.close()
            raise httpx.ReadError("the line broke")
        return response

    with AtelierClient(running_api.url, running_api.api_key, transport=FaultyTransport(lose_one_answer)) as other:
        link = other.create_link(adapter.id)
    assert httpx.get(link.url).status_code == 200
    assert [each.id for each in client.list_links(adapter.id)] == [link.id] != lost
