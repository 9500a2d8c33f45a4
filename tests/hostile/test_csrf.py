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


@pytest.mark.parametrize("what", FOREIGN_HEADERS)
def test_requests_from_elsewhere_change_nothing(visitor: Visitor, what: str) -> None:
    """Even with the page's own token."""
    host = urlsplit(visitor.api.url).netloc
    headers = {
        name: value.format(host=host, name=host.partition(":")[0]) for name, value in FOREIGN_HEADERS[what].items()
    }
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
    with httpx.Client(base_url=visitor.api.url) as other:
        log_in(visitor.api, other)
        tokens = {
            "empty": "", "zeros": "0" * 64, "another session's": read_token(other), "cut short": visitor.csrf[:-1],
            "in capitals": visitor.csrf.upper(), "with a tail": visitor.csrf + " ",
            "the session itself": visitor.session,
        }  # fmt: skip
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


def test_the_api_takes_no_cookie(visitor: Visitor) -> None:
    """What changes things by JSON asks for a key, which no browser sends by itself."""
    for method, path in (
        ("POST", f"/jobs/{visitor.job}/cancel"),
        ("DELETE", f"/jobs/{visitor.job}"),
        ("POST", "/keys"),
    ):
        answer = visitor.browser.request(method, path, headers=HERE)
        assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")
    visitor.check_unharmed()
