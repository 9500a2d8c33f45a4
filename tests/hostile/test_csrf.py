"""Requests that another site lets a visitor's browser send: with the visitor's cookie, and to no effect."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest

from tests.app.conftest import LiveApi
from tests.app.factory import submit
from tests.app.test_jobs import refuse

HERE = {"Sec-Fetch-Site": "same-origin"}

# What a browser says of where a request comes from. ``{host}`` is the service's own.
FOREIGN_HEADERS: dict[str, dict[str, str]] = {
    "another site": {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    "another site that says no origin": {"Sec-Fetch-Site": "cross-site"},
    "a neighbour on the same domain": {"Sec-Fetch-Site": "same-site", "Origin": "https://blog.{host}"},
    "an address typed by hand": {"Sec-Fetch-Site": "none"},
    "a site with our origin": {"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"},
    "another spelling": {"Sec-Fetch-Site": "Same-Origin"},
    "two values": {"Sec-Fetch-Site": "same-origin, cross-site"},
    "an old browser elsewhere": {"Origin": "https://evil.example"},
    "a sandboxed frame": {"Origin": "null"},
    "an empty origin": {"Origin": ""},
    "a host that begins like ours": {"Origin": "http://{host}.evil.example"},
    "a host that ends like ours": {"Origin": "http://evil-{host}"},
    "our host as a user": {"Origin": "http://{host}@evil.example"},
    "our host as a path": {"Origin": "http://evil.example/{host}"},
    "our host as a query": {"Origin": "http://evil.example?{host}"},
    "another port": {"Origin": "http://{name}:1"},
    "no port": {"Origin": "http://{name}"},
    "a file": {"Origin": "file://"},
    "an extension": {"Origin": "chrome-extension://abcdefgh"},
    "our address as referrer alone": {"Referer": "http://{host}/ui"},
    "our origin without a scheme": {"Origin": "{host}"},
    "nothing said": {},
}
TARGETS = ("/ui/login", "/ui/logout", "/ui/jobs/{job}/cancel", "/ui/jobs/{job}/pause", "/ui/jobs/{job}/resume")
FORGED_TOKENS = (
    "nothing", "empty", "zeros", "another session's", "cut short", "in capitals", "with a tail", "the session itself",
    "in the query", "in a header", "in the cookie",
)  # fmt: skip


@dataclass
class Visitor:
    """A browser that is logged in, looking at a job."""

    browser: httpx.Client
    api: LiveApi
    job: str
    csrf: str

    @property
    def session(self) -> str:
        return next(iter(self.browser.cookies.values()))

    def check_unharmed(self) -> None:
        assert self.api.client.get(f"/jobs/{self.job}").json()["status"] == "queued"
        assert self.browser.get("/ui").status_code == 200


def log_in(api: LiveApi, browser: httpx.Client) -> None:
    assert browser.post("/ui/login", data={"api_key": api.api_key}, headers=HERE).status_code == 303


def read_token(browser: httpx.Client) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', browser.get("/ui").text)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def visitor(shared_api: LiveApi) -> Iterator[Visitor]:
    with httpx.Client(base_url=shared_api.url) as browser:
        log_in(shared_api, browser)
        yield Visitor(browser, shared_api, submit(shared_api)["id"], read_token(browser))


def describe_origin(visitor: Visitor, what: str) -> dict[str, str]:
    host = urlsplit(visitor.api.url).netloc
    return {name: value.format(host=host, name=host.partition(":")[0]) for name, value in FOREIGN_HEADERS[what].items()}


def forge_tokens(visitor: Visitor) -> dict[str, str]:
    with httpx.Client(base_url=visitor.api.url) as other:
        log_in(visitor.api, other)
        return {
            "empty": "", "zeros": "0" * 64, "another session's": read_token(other), "cut short": visitor.csrf[:-1],
            "in capitals": visitor.csrf.upper(), "with a tail": visitor.csrf + "x",
            "the session itself": visitor.session,
        }  # fmt: skip


@pytest.mark.parametrize("what", FOREIGN_HEADERS)
def test_requests_from_elsewhere_change_nothing(visitor: Visitor, what: str) -> None:
    """Even with the page's own token."""
    headers = describe_origin(visitor, what)
    form = {"csrf": visitor.csrf, "api_key": visitor.api.api_key}
    for target in TARGETS:
        path = target.format(job=visitor.job)
        answer = visitor.browser.post(path, data=form, headers=headers)
        refuse(answer, 403, "csrf")
        assert "set-cookie" not in answer.headers
        page = visitor.browser.post(path, data=form, headers={**headers, "Accept": "text/html"})
        assert (page.status_code, page.headers["content-type"]) == (403, "text/html; charset=utf-8")
    visitor.check_unharmed()


@pytest.mark.parametrize("what", FORGED_TOKENS)
def test_without_the_pages_own_token_nothing_is_changed(visitor: Visitor, what: str) -> None:
    """Even from here: what another page on this origin could send."""
    tokens = forge_tokens(visitor)
    request = httpx.Request("POST", visitor.api.url, data={"csrf": tokens[what]} if what in tokens else {})
    headers = {**HERE, "Content-Type": "application/x-www-form-urlencoded"}
    headers |= {"X-CSRF-Token": visitor.csrf} if what == "in a header" else {}
    cookies = f"{next(iter(visitor.browser.cookies))}={visitor.session}"
    headers["Cookie"] = f"{cookies}; csrf={visitor.csrf}" if what == "in the cookie" else cookies
    query = f"?csrf={visitor.csrf}" if what == "in the query" else ""
    for target in TARGETS[1:]:
        url = f"{visitor.api.url}{target.format(job=visitor.job)}{query}"
        refuse(httpx.post(url, content=request.content, headers=headers), 403, "csrf")
    visitor.check_unharmed()


def test_a_link_changes_nothing(visitor: Visitor) -> None:
    """What is followed, or loaded as a picture, is a GET."""
    for target in TARGETS[1:]:
        answer = visitor.browser.get(f"{target.format(job=visitor.job)}?csrf={visitor.csrf}")
        assert answer.status_code in {404, 405}
    visitor.check_unharmed()


API_CHANGES = (("POST", "/jobs/{job}/cancel"), ("DELETE", "/jobs/{job}"), ("POST", "/keys"), ("POST", "/datasets"))
CSRF_HEADER = "X-CSRF-Token"
FORGED_AT_THE_API = [what for what in FORGED_TOKENS if what != "in a header"]  # which is where it belongs here


@pytest.mark.parametrize("what", FOREIGN_HEADERS)
def test_the_api_takes_no_change_from_elsewhere(visitor: Visitor, what: str) -> None:
    """By the visitor's session, even with the page's own token."""
    headers = {**describe_origin(visitor, what), CSRF_HEADER: visitor.csrf}
    for method, path in API_CHANGES:
        body = {"name": "a key"}
        refuse(visitor.browser.request(method, path.format(job=visitor.job), headers=headers, json=body), 403, "csrf")
    visitor.check_unharmed()


@pytest.mark.parametrize("what", FORGED_AT_THE_API)
def test_the_api_takes_no_change_without_the_sessions_token(visitor: Visitor, what: str) -> None:
    headers = {**HERE, "Cookie": f"{next(iter(visitor.browser.cookies))}={visitor.session}"}
    if (token := forge_tokens(visitor).get(what)) is not None:
        headers[CSRF_HEADER] = token
    if what == "in the cookie":
        headers["Cookie"] += f"; csrf={visitor.csrf}; {CSRF_HEADER}={visitor.csrf}"
    query = f"?csrf={visitor.csrf}" if what == "in the query" else ""
    for method, path in API_CHANGES:
        url = f"{visitor.api.url}{path.format(job=visitor.job)}{query}"
        refuse(httpx.request(method, url, headers=headers, json={"csrf": visitor.csrf}), 403, "csrf")
    visitor.check_unharmed()


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Same-Origin", "same-origin, cross-site", ""])
def test_another_site_reads_nothing(visitor: Visitor, site: str) -> None:
    """Not even as a picture, a script or a stream of events."""
    for path in ("/jobs", f"/jobs/{visitor.job}", "/activity", "/keys", "/openapi.json/../audit"):
        for accept in ("*/*", "image/png", "text/event-stream"):
            answer = visitor.browser.get(path, headers={"Sec-Fetch-Site": site, "Accept": accept})
            refuse(answer, 403, "csrf")
            assert "access-control-allow-origin" not in answer.headers


def test_what_the_session_may_read_is_kept_from_other_origins_and_caches(visitor: Visitor) -> None:
    for headers in (HERE, {}):
        answer = visitor.browser.get("/jobs", headers={**headers, "Origin": "https://evil.example"})
        assert answer.status_code == 200
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_pages_own_requests_are_taken(visitor: Visitor) -> None:
    """Else the tests above would prove nothing."""
    headers = {**HERE, CSRF_HEADER: visitor.csrf}
    made = visitor.browser.post("/datasets", headers=headers, json={"name": "from a page"})
    assert made.status_code == 201, made.text
    assert visitor.browser.delete(f"/datasets/{made.json()['id']}", headers=headers).status_code == 204
    old = {"Origin": visitor.api.url, CSRF_HEADER: visitor.csrf}
    assert visitor.browser.post("/datasets", headers=old, json={"name": "without TLS"}).status_code == 201


def test_a_key_in_the_header_counts_alone(visitor: Visitor) -> None:
    """A wrong one is not made up for by a good session."""
    headers = {**HERE, CSRF_HEADER: visitor.csrf, "Authorization": "Bearer atl_wrong"}
    assert visitor.browser.get("/jobs", headers=headers).status_code == 401


def test_a_session_makes_no_login_links(visitor: Visitor) -> None:
    """It would outlive itself."""
    assert visitor.browser.post("/ui/tokens", headers={**HERE, CSRF_HEADER: visitor.csrf}).status_code == 401


def test_a_session_ends_for_the_api_too(visitor: Visitor) -> None:
    with httpx.Client(base_url=visitor.api.url) as browser:
        log_in(visitor.api, browser)
        token, name = read_token(browser), next(iter(browser.cookies))
        stolen = {**HERE, "Cookie": f"{name}={browser.cookies[name]}", CSRF_HEADER: token}
        url = f"{visitor.api.url}/activity"
        with httpx.stream("GET", url, headers={**stolen, "Accept": "text/event-stream"}, timeout=60) as stream:
            assert next(lines := stream.iter_lines()) == "event: ready"
            browser.post("/ui/logout", data={"csrf": token}, headers=HERE)
            assert not [line for line in lines if line.startswith("event:")], "the stream ends"
    assert httpx.get(f"{visitor.api.url}/jobs", headers=stolen).status_code == 401
    assert httpx.post(f"{visitor.api.url}/datasets", headers=stolen, json={}).status_code == 401
