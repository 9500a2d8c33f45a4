"""Who gets in, what the cookie is, and what another site can not do."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import text

from app.dashboard.pages import safe_next
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob

PAGE = {"Accept": "text/html,application/xhtml+xml"}
HERE = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def browsing(running_api: RunningApi) -> Iterator[httpx.Client]:
    """A browser without scripts: keeps cookies, follows nothing."""
    with httpx.Client(base_url=running_api.url, headers=PAGE) as client:
        yield client


def log_in(browsing: httpx.Client, api: RunningApi) -> httpx.Response:
    return browsing.post("/ui/login", data={"api_key": api.api_key}, headers=HERE)


def find_csrf(page: httpx.Response) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)
    assert found
    return found[1]


def token_of(link: str) -> str:
    return parse_qs(urlsplit(link).query)["token"][0]


def test_a_key_opens_a_session_by_a_cookie_that_no_script_and_no_other_site_gets(
    browsing: httpx.Client, running_api: RunningApi
) -> None:
    answer = log_in(browsing, running_api)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/ui"
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"atelier-{running_api.port}=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/" in cookie
    assert browsing.get("/ui").status_code == 200


def test_over_https_the_cookie_is_secure_and_bound_to_the_host(browsing: httpx.Client, running_api: RunningApi) -> None:
    headers = {**HERE, "X-Forwarded-Proto": "https"}
    answer = browsing.post("/ui/login", data={"api_key": running_api.api_key}, headers=headers)
    assert answer.headers["set-cookie"].startswith("__Host-atelier=")
    assert "Secure" in answer.headers["set-cookie"]
    assert "Domain" not in answer.headers["set-cookie"]


def test_the_database_holds_neither_link_nor_session(browsing: httpx.Client, running_api: RunningApi) -> None:
    link_token = token_of(running_api.login_link())
    log_in(browsing, running_api)
    with running_api.sessions() as session:
        dump = str(session.execute(text("SELECT * FROM dashboard_tokens")).all())
    assert dump.count("login") == 1
    assert link_token not in dump
    assert next(iter(browsing.cookies.values())) not in dump


def test_a_link_works_once(browsing: httpx.Client, running_api: RunningApi) -> None:
    token = token_of(running_api.login_link())
    first = browsing.post("/ui/login", data={"token": token}, headers=HERE)
    again = browsing.post("/ui/login", data={"token": token}, headers=HERE)
    assert first.status_code == 303
    assert again.status_code == 401
    assert "used before" in again.text
    assert "set-cookie" not in again.headers


def test_looking_at_a_link_does_not_use_it_up(browsing: httpx.Client, running_api: RunningApi) -> None:
    link = running_api.login_link()
    assert browsing.get(link).status_code == 200
    assert browsing.get(link).status_code == 200
    assert browsing.post("/ui/login", data={"token": token_of(link)}, headers=HERE).status_code == 303


def test_an_old_link_is_refused(browsing: httpx.Client, running_api: RunningApi) -> None:
    token = token_of(running_api.login_link())
    with running_api.sessions() as session, session.begin():
        session.execute(text("UPDATE dashboard_tokens SET expires_at = now() - interval '1 second'"))
    assert browsing.post("/ui/login", data={"token": token}, headers=HERE).status_code == 401


@pytest.mark.parametrize("key", ["", "atl_wrong", "x" * 5000])
def test_a_wrong_key_is_refused_in_words(browsing: httpx.Client, key: str) -> None:
    answer = browsing.post("/ui/login", data={"api_key": key}, headers=HERE)
    assert answer.status_code in {401, 404}
    assert "set-cookie" not in answer.headers
    assert "text/html" in answer.headers["content-type"]


def test_a_link_needs_a_key(running_api: RunningApi) -> None:
    assert httpx.post(f"{running_api.url}/ui/tokens").status_code == 401
    answer = httpx.post(f"{running_api.url}/ui/tokens", headers={"Authorization": "Bearer atl_no"})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


def test_without_a_session_pages_lead_to_the_login_and_data_is_refused(
    browsing: httpx.Client, running_api: RunningApi
) -> None:
    job = ScriptedJob(running_api)
    page = browsing.get(f"/ui/jobs/{job.id}")
    assert (page.status_code, page.headers["location"]) == (303, f"/ui/login?next=/ui/jobs/{job.id}")
    for path in ("stream", "samples/0/grid.png", "adapter"):
        data = httpx.get(f"{running_api.url}/ui/jobs/{job.id}/{path}", headers={"Accept": "*/*"})
        assert data.status_code == 401, path


def test_the_session_reads_the_api_for_its_own_pages_alone(browsing: httpx.Client, running_api: RunningApi) -> None:
    assert browsing.get("/jobs").status_code == 401
    log_in(browsing, running_api)
    assert browsing.get("/jobs", headers=HERE).status_code == 200
    assert browsing.get("/jobs", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_logging_out_ends_the_session_on_the_server_too(browsing: httpx.Client, running_api: RunningApi) -> None:
    log_in(browsing, running_api)
    kept = dict(browsing.cookies)
    csrf = find_csrf(browsing.get("/ui"))
    assert browsing.post("/ui/logout", data={"csrf": csrf}, headers=HERE).status_code == 303
    assert httpx.get(f"{running_api.url}/ui", cookies=kept, headers=PAGE).status_code == 303


def test_a_revoked_key_ends_its_sessions(browsing: httpx.Client, running_api: RunningApi) -> None:
    log_in(browsing, running_api)
    with running_api.sessions() as session, session.begin():
        session.execute(text("UPDATE api_keys SET revoked_at = now()"))
    assert browsing.get("/ui").status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {},
    ],
)
def test_another_site_changes_nothing(browsing: httpx.Client, running_api: RunningApi, headers: dict[str, str]) -> None:
    job = ScriptedJob(running_api)
    log_in(browsing, running_api)
    csrf = find_csrf(browsing.get(f"/ui/jobs/{job.id}"))
    for path in (f"/ui/jobs/{job.id}/cancel", "/ui/logout", "/ui/login"):
        answer = browsing.post(path, data={"csrf": csrf, "api_key": running_api.api_key}, headers=headers)
        assert answer.status_code == 403, path
    assert 'data-status="queued"' in browsing.get(f"/ui/jobs/{job.id}").text


@pytest.mark.parametrize("csrf", ["", "0" * 64])
def test_without_the_pages_own_token_nothing_is_changed(
    browsing: httpx.Client, running_api: RunningApi, csrf: str
) -> None:
    job = ScriptedJob(running_api)
    log_in(browsing, running_api)
    assert browsing.post(f"/ui/jobs/{job.id}/cancel", data={"csrf": csrf}, headers=HERE).status_code == 403
    assert 'data-status="queued"' in browsing.get(f"/ui/jobs/{job.id}").text


def test_an_old_browser_is_known_by_its_origin(browsing: httpx.Client, running_api: RunningApi) -> None:
    answer = browsing.post("/ui/login", data={"api_key": running_api.api_key}, headers={"Origin": running_api.url})
    assert answer.status_code == 303


def test_pages_run_no_foreign_code(browsing: httpx.Client, running_api: RunningApi) -> None:
    log_in(browsing, running_api)
    page = browsing.get("/ui")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["cache-control"] == "no-store"
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", page.text)


def test_a_name_is_text_and_never_markup(browsing: httpx.Client, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api, name="<img src=x onerror=alert(1)>")
    log_in(browsing, running_api)
    for path in ("/ui/jobs", f"/ui/jobs/{job.id}"):
        page = browsing.get(path).text
        assert "<img src=x" not in page
        assert "&lt;img src=x onerror=alert(1)&gt;" in page


@pytest.mark.parametrize(
    ("wanted", "led_to"),
    [
        ("/ui/jobs/job_1", "/ui/jobs/job_1"),
        ("/ui/../jobs", "/ui/../jobs"),
        (None, "/ui"),
        ("", "/ui"),
        ("https://evil.example", "/ui"),
        ("//evil.example", "/ui"),
        ("/ui//evil.example", "/ui"),
        ("/\\evil.example", "/ui"),
        ("/ui/\\evil", "/ui"),
        ("/ui/x\r\nSet-Cookie: a=b", "/ui"),
    ],
)
def test_the_login_leads_back_to_the_dashboard_alone(wanted: str | None, led_to: str) -> None:
    assert safe_next(wanted) == led_to


@pytest.mark.parametrize("name", ["..%2fendpoints.py", "%2e%2e/pages.py", "style.css%00", "nothing.css", "Style.css"])
def test_only_the_pages_own_files_are_served(browsing: httpx.Client, running_api: RunningApi, name: str) -> None:
    log_in(browsing, running_api)
    assert browsing.get(f"/ui/static/{name}").status_code in {303, 404}
    assert browsing.get("/ui/static/style.css").headers["content-type"].startswith("text/css")


@pytest.mark.parametrize(("scope", "hidden"), [("read", True), ("jobs", False)])
def test_only_who_may_change_a_job_is_offered_to(
    browsing: httpx.Client, running_api: RunningApi, scope: str, hidden: bool
) -> None:
    job = ScriptedJob(running_api)
    job.start()
    with httpx.Client(base_url=running_api.url, headers={"Authorization": f"Bearer {running_api.api_key}"}) as admin:
        made = admin.post("/keys", json={"name": "guest", "scopes": ["read", scope]}).raise_for_status().json()
    browsing.post("/ui/login", data={"api_key": made["secret"]}, headers=HERE)
    page = browsing.get(f"/ui/jobs/{job.id}").text
    assert (f'action="/ui/jobs/{job.id}/cancel"' not in page) == hidden
