"""Floods: by one key, by guessed keys; and what answers say of it."""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis
from sqlalchemy import select

from app.limits import buckets
from app.middleware.rates import KNOWN_KEYS, KnownKeys, network_of
from core.db import jobs, keys
from core.db.tables import ApiKey
from core.domain.keys import make_api_key
from tests.app.conftest import LiveApi, as_tenant
from tests.app.factory import submit
from tests.app.test_jobs import refuse
from tests.fixtures.servers import ValkeyHandle, start_valkey, wait_for

Start = Callable[..., LiveApi]


def fields(answer: httpx.Response) -> tuple[int, int, int, int]:
    """(q, w, r, t)"""
    policy = re.fullmatch(r'"key";q=(\d+);w=(\d+)', answer.headers["ratelimit-policy"])
    level = re.fullmatch(r'"key";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
    assert policy and level, answer.headers
    return int(policy[1]), int(policy[2]), int(level[1]), int(level[2])


def test_every_answer_with_a_key_says_what_is_left(start_api: Start) -> None:
    api = start_api(rate_per_minute=6, rate_burst=10)
    quota, window, remaining, until_full = fields(api.client.get("/jobs"))
    assert (quota, window, remaining, until_full) == (10, 100, 9, 10)
    answers = [api.client.get("/jobs/job_none"), api.client.post("/jobs", json={}), api.client.delete("/jobs")]
    assert [answer.status_code for answer in answers] == [404, 422, 405]
    assert [fields(answer)[2] for answer in answers] == [8, 7, 6], "errors too"
    for answer in (httpx.get(f"{api.url}/healthz"), httpx.get(f"{api.url}/jobs"), api.client.get("/healthz")):
        assert "ratelimit" not in answer.headers, "what needs no key counts for none"
    assert fields(api.client.get("/jobs"))[2] == 5


FLOODS: list[Callable[[httpx.Client, str], httpx.Response]] = [
    lambda client, job: client.get("/jobs"),
    lambda client, job: client.get("/jobs/../../etc/passwd"),
    lambda client, job: client.get("/nowhere"),
    lambda client, job: client.get("/tenants"),
    lambda client, job: client.post("/jobs", json={"model": "toy"}),
    lambda client, job: client.post("/jobs", content=b"x" * 500_000),
    lambda client, job: client.post("/datasets", files={"files": ("a.png", b"x" * 500_000)}),
    lambda client, job: client.delete(f"/jobs/{job}"),
    lambda client, job: client.post(f"/jobs/{job}/cancel"),
    lambda client, job: client.get(f"/jobs/{job}/events", headers={"Accept": "text/event-stream"}),
]


def test_a_flood_of_one_key_is_refused_before_anything_is_asked(start_api: Start, api: LiveApi) -> None:
    """Ten floods: whatever is sent, the answer is the same 429, and other keys are served."""
    limited = start_api(rate_per_minute=1, rate_burst=5)
    job_id = submit(limited)["id"]
    before = limited.client.get(f"/jobs/{job_id}").json()
    while limited.client.get("/jobs").status_code != 429:
        pass
    for flood in FLOODS:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda client, flood=flood: flood(client, job_id), [limited.client] * 20))
        for answer in answers:
            problem = refuse(answer, 429, "quota-exceeded")
            assert "limit: 1 per minute" in problem["detail"]
            assert 1 <= int(answer.headers["retry-after"]) <= 60
            assert fields(answer)[2] == 0
    with as_tenant(limited) as neighbour:
        assert neighbour.client.get("/jobs").status_code == 200
        with neighbour.sessions() as session:
            job = jobs.get_job(session, limited.tenant_id, job_id)
    assert (job.status, job.progress) == (before["status"], None), "nothing of the flood was done"


def test_a_bucket_fills_again(start_api: Start) -> None:
    api = start_api(rate_per_minute=600, rate_burst=2)
    answers = []
    while not answers or answers[-1].status_code != 429:
        answers.append(api.client.get("/jobs"))
    assert int(answers[-1].headers["retry-after"]) == 1
    wait_for(lambda: api.client.get("/jobs").status_code == 200, 30)


def test_two_servers_draw_from_one_bucket(start_api: Start) -> None:
    first = start_api(rate_per_minute=1, rate_burst=6)
    second = start_api(rate_per_minute=1, rate_burst=6, api_key=first.api_key)
    statuses = [api.client.get("/jobs").status_code for _ in range(6) for api in (first, second)]
    assert statuses == [200] * 6 + [429] * 6


def test_streams_and_long_polls_count_once(start_api: Start) -> None:
    api = start_api(rate_per_minute=1, rate_burst=100)
    job_id = submit(api)["id"]
    before = fields(api.client.get("/jobs"))[2]
    assert fields(api.client.get(f"/jobs/{job_id}?wait=1"))[2] == before - 1
    with api.client.stream("GET", f"/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}) as stream:
        assert fields(stream)[2] == before - 2  # type: ignore[arg-type]
        next(stream.iter_bytes())
    assert fields(api.client.get("/jobs"))[2] == before - 3


def test_keys_are_not_guessed_at_speed(start_api: Start) -> None:
    """After so many a minute even a good key is not looked at, but for those that were good before."""
    api = start_api(failures_per_minute=5)
    assert api.client.get("/jobs").status_code == 200
    guesses = [httpx.get(f"{api.url}/jobs", headers={"Authorization": f"Bearer {make_api_key()}"}) for _ in range(8)]
    assert [answer.status_code for answer in guesses] == [401] * 5 + [429] * 3
    problem = refuse(guesses[-1], 429, "quota-exceeded")
    assert "address" in problem["detail"] and 1 <= int(guesses[-1].headers["retry-after"]) <= 60
    with as_tenant(api) as lucky:
        refuse(lucky.client.get("/jobs"), 429, "quota-exceeded")
    assert api.client.get("/jobs").status_code == 200, "its owner is not shut out by others behind one address"
    for header in ("Bearer x", "Basic eA==", "", "Bearer"):
        answer = httpx.get(f"{api.url}/jobs", headers={"Authorization": header})
        assert answer.status_code == 429, header
    answer = httpx.post(f"{api.url}/ui/login", data={"api_key": make_api_key()}, headers={"Origin": api.url})
    assert answer.status_code == 429
    assert httpx.get(f"{api.url}/jobs").status_code == 401, "no key is no guess"
    assert httpx.get(f"{api.url}/ui/login").status_code == httpx.get(f"{api.url}/healthz").status_code == 200


def test_a_key_is_known_once_the_gate_has_found_its_owner(start_api: Start) -> None:
    """Open paths answer to any key: that makes none known, whose guesses would then cost nothing."""
    api = start_api(failures_per_minute=5)
    made_up = {"Authorization": f"Bearer {make_api_key()}"}
    assert httpx.get(f"{api.url}/ui/static/style.css", headers=made_up).status_code == 200
    statuses = [httpx.get(f"{api.url}/jobs", headers=made_up).status_code for _ in range(8)]
    assert statuses == [401] * 5 + [429] * 3


def test_a_key_that_was_revoked_is_known_no_more(start_api: Start) -> None:
    api = start_api(failures_per_minute=5)
    with as_tenant(api) as other:
        assert other.client.get("/jobs").status_code == 200
        with other.sessions.begin() as session:
            (key,) = session.scalars(select(ApiKey).where(ApiKey.tenant_id == other.tenant_id))
            keys.revoke_key(session, other.tenant_id, key.id)
        assert [other.client.get("/jobs").status_code for _ in range(7)] == [401] * 5 + [429] * 2


def test_debts_have_an_end(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is behind the same address as a client that guesses all day is not shut out for days."""
    monkeypatch.setattr(buckets, "TIMEOUT_SECONDS", 60)  # a loaded machine is no broker that is away
    policy = buckets.Policy("failures", 5, 5)

    async def owe() -> float:
        store = buckets.Buckets(redis_url)
        for _ in range(80):
            level = await store.take(policy, "someone", force=True)
        await store.close()
        assert level is not None
        return level.tokens

    assert asyncio.run(owe()) == pytest.approx(-50, abs=0.1)


def test_failed_logins_count(start_api: Start) -> None:
    api = start_api(failures_per_minute=3)
    form = {"api_key": make_api_key()}
    statuses = [httpx.post(f"{api.url}/ui/login", data=form, headers={"Origin": api.url}).status_code for _ in range(5)]
    assert statuses == [401] * 3 + [429] * 2


def test_many_guesses_at_once_are_paid_for(start_api: Start) -> None:
    """Those that come together may all be answered; after them it takes the longer."""
    api = start_api(failures_per_minute=5)

    def guess(_: int) -> int:
        return httpx.get(f"{api.url}/jobs", headers={"Authorization": f"Bearer {make_api_key()}"}).status_code

    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(guess, range(40)))
    assert set(statuses) == {401, 429}
    answer = httpx.get(f"{api.url}/jobs", headers={"Authorization": f"Bearer {make_api_key()}"})
    debt = statuses.count(401) - 5
    assert int(answer.headers["retry-after"]) >= 12 * debt - 12


@pytest.fixture
def own_valkey(tmp_path: Path) -> Callable[[], ValkeyHandle]:
    return lambda: start_valkey(tmp_path)


def test_without_the_broker_requests_pass(
    start_api: Start,
    own_valkey: Callable[[], ValkeyHandle],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Said once; and limited again when it is back."""
    monkeypatch.setattr(buckets, "PAUSE_SECONDS", 0.2)
    broker = own_valkey()
    try:
        api = start_api(redis_url=broker.url, rate_per_minute=1, rate_burst=3)
        assert [api.client.get("/jobs").status_code for _ in range(4)] == [200, 200, 200, 429]
        with caplog.at_level(logging.WARNING, logger="app.limits.buckets"):
            broker.kill()
            for _ in range(3):
                answer = api.client.get("/jobs")
                assert answer.status_code == 200 and "ratelimit" not in answer.headers
                time.sleep(0.3)
        logged = [record for record in caplog.records if record.name == "app.limits.buckets"]
        assert len(logged) == 1 and "until the broker is back" in logged[0].getMessage()
        broker.start()
        wait_for(lambda: "ratelimit" in api.client.get("/jobs").headers, 60)
    finally:
        broker.stop()


def test_buckets_leave_the_store_when_they_are_full(start_api: Start) -> None:
    api = start_api(rate_per_minute=6, rate_burst=10)  # one request is made good in ten seconds
    api.client.get("/jobs")
    with redis.Redis.from_url(api.settings.redis_url) as store:
        names = list(store.scan_iter(f"{buckets.PREFIX}*"))
        assert names and all(0 < store.pttl(name) <= 11_000 for name in names)  # type: ignore[operator]
        assert not any(api.api_key.encode() in name for name in names)


def test_addresses_of_one_network_are_one() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("10.0.0.1") == "10.0.0.1" and network_of("::ffff:10.0.0.1") == "::ffff:10.0.0.1"
    assert network_of("fe80::1%eth0") == "fe80::/64" and network_of("") == "" and network_of("x") == "x"


def test_known_keys_are_forgotten_in_the_order_of_their_use() -> None:
    known = KnownKeys()
    for number in range(KNOWN_KEYS):
        known.add(str(number))
    known.add("0")
    known.add("new")
    assert "0" in known and "new" in known and "1" not in known


def test_a_keys_dashboard_sessions_share_its_bucket(start_api: Start) -> None:
    """All but the first request of each, whose key is not known yet: these share the address's."""
    api = start_api(rate_per_minute=6, rate_burst=10)
    here = {"Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=api.url, headers=here) as one, httpx.Client(base_url=api.url, headers=here) as two:
        for browser, left in ((one, 9), (two, 8)):
            assert browser.post("/ui/login", data={"api_key": api.api_key}).status_code == 303
            assert fields(browser.get("/jobs"))[2] == left
        assert [fields(browser.get("/jobs"))[2] for browser in (one, two, one)] == [9, 8, 7]
        assert fields(api.client.get("/jobs"))[2] == 6
        for _ in range(6):
            assert two.get("/jobs").status_code == 200
        refuse(one.get("/jobs"), 429, "quota-exceeded")
        assert one.get("/ui/jobs").status_code == 200, "pages are not counted"


def test_made_up_sessions_of_one_address_share_a_bucket(start_api: Start) -> None:
    api = start_api(rate_per_minute=1, rate_burst=5)
    with httpx.Client(base_url=api.url, headers={"Sec-Fetch-Site": "same-origin"}) as browser:
        browser.post("/ui/login", data={"api_key": api.api_key})
        name = next(iter(browser.cookies))
    made_up = [httpx.get(f"{api.url}/jobs", headers={"Cookie": f"{name}=made-up-{at}"}).status_code for at in range(8)]
    assert made_up == [401] * 5 + [429] * 3
    assert api.client.get("/jobs").status_code == 200


def test_an_ended_session_is_no_guessed_key(start_api: Start) -> None:
    """A page with many pictures does not lock its reader out of the login."""
    api = start_api(failures_per_minute=5)
    with httpx.Client(base_url=api.url, headers={"Sec-Fetch-Site": "same-origin"}) as browser:
        assert browser.post("/ui/login", data={"api_key": api.api_key}).status_code == 303
        name = next(iter(browser.cookies))
        ended = {"Cookie": f"{name}=ended"}
        assert {httpx.get(f"{api.url}/jobs", headers=ended).status_code for _ in range(20)} == {401}
        assert browser.post("/ui/login", data={"api_key": api.api_key}).status_code == 303
