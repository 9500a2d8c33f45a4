"""What is under way when its key ends: streams and waits end with it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
from sqlalchemy import update

from core.db.jobs import cancel_job
from core.db.tables import ApiKey
from core.domain.keys import hash_api_key
from tests.app.conftest import LiveApi, with_scopes
from tests.app.factory import submit
from tests.fixtures.servers import wait_for


def end_key(api: LiveApi, key: str, column: str) -> None:
    with api.sessions.begin() as session:
        session.execute(update(ApiKey).where(ApiKey.sha256 == hash_api_key(key)).values({column: datetime.now(UTC)}))


def read_to_the_end(api: LiveApi, path: str, opened: threading.Event) -> str:
    headers = {**api.headers, "Accept": "text/event-stream"}
    said = ""
    with httpx.stream("GET", f"{api.url}{path}", headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        for part in answer.iter_text():
            said += part
            opened.set()
    return said


def test_a_stream_ends_with_its_key_and_tells_nothing_more(api: LiveApi) -> None:
    for column in ("revoked_at", "expires_at"):
        job = submit(api)
        with with_scopes(api, "read") as guest, ThreadPoolExecutor() as pool:
            opened = threading.Event()
            reading = pool.submit(read_to_the_end, guest, f"/jobs/{job['id']}/events", opened)
            assert opened.wait(60)
            end_key(api, guest.api_key, column)
            with api.sessions.begin() as session:
                cancel_job(session, api.tenant_id, job["id"])
            said = reading.result(timeout=60)
        assert "job.queued" in said
        assert "job.canceled" not in said


def test_a_wait_ends_with_its_key(api: LiveApi) -> None:
    job = submit(api)
    with with_scopes(api, "read") as guest, ThreadPoolExecutor() as pool:
        waiting = pool.submit(guest.client.get, f"/jobs/{job['id']}", params={"wait": 25})
        time.sleep(0.5)  # it may also come too late to wait: then the gate refuses, as it must
        end_key(api, guest.api_key, "revoked_at")
        answer = waiting.result(timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")


def test_a_page_that_is_open_learns_nothing_more(api: LiveApi) -> None:
    job = submit(api)
    with with_scopes(api, "read") as guest, httpx.Client(base_url=api.url, timeout=60) as browser:
        headers = {"Sec-Fetch-Site": "same-origin"}
        assert browser.post("/ui/login", data={"api_key": guest.api_key}, headers=headers).status_code == 303
        with browser.stream("GET", f"/ui/jobs/{job['id']}/stream") as answer:
            parts = answer.iter_text()
            assert "queued" in next(parts)
            end_key(api, guest.api_key, "revoked_at")
            with api.sessions.begin() as session:
                cancel_job(session, api.tenant_id, job["id"])
            assert "canceled" not in "".join(parts)
        wait_for(lambda: browser.get(f"/ui/jobs/{job['id']}/stream").status_code != 200, 60)
