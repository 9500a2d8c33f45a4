"""Names, captions, prompts and paths that would be code are text wherever the dashboard and the API show them."""

import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import quote

import httpx
import pytest

from app.datasets.names import check_name
from core.domain.errors import InvalidRequest
from core.storage.disposition import attachment, make_filename
from tests.app.conftest import LiveApi, as_tenant, workers_url
from tests.app.factory import add_dataset, add_model
from tests.fixtures.pictures import png
from tests.hostile.scripts import TEXTS
from worker.consumer import Consumer
from worker.datasets.service import Validation

PAGE = {"Accept": "text/html"}
BENIGN = "a plain name"


class Shape(HTMLParser):
    """What a page is made of: its elements with the names of their attributes; and, apart from that, its texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.texts: list[str] = []
        self.next: str | None = None
        self.feed(page)
        self.close()

    def add(self, page: "Shape") -> None:
        """The next page."""
        self.elements += page.elements
        self.texts += page.texts
        self.next = page.next

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *(name for name, _ in attrs)))
        self.texts += [value or "" for _, value in attrs]
        if ("rel", "next") in attrs:
            self.next = dict(attrs)["href"]
        for name, value in attrs:
            assert not name.startswith("on") and name != "style", (tag, name)
            if name in {"src", "href", "action", "formaction", "data-source"}:
                assert (value or "").startswith(("/ui", "/docs", "#main", "/jobs/job_", "/datasets/ds_")), (
                    tag,
                    name,
                    value,
                )

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def says(self, text: str) -> bool:
        return any(text in found for found in self.texts)


def look(browser: httpx.Client, path: str, status: int = 200) -> Shape:
    answer = browser.get(path, headers=PAGE)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8"), path
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy and "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    return Shape(answer.text)


@pytest.fixture(scope="module")
def house(shared_api: LiveApi) -> Iterator[LiveApi]:
    """A tenant for all tests of this file."""
    with as_tenant(shared_api) as api:
        yield api


@pytest.fixture(scope="module")
def browser(house: LiveApi) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=house.url) as browser:
        form, here = {"api_key": house.api_key}, {"Sec-Fetch-Site": "same-origin"}
        assert browser.post("/ui/login", data=form, headers=here).status_code == 303
        yield browser


@pytest.fixture(scope="module")
def dataset(house: LiveApi) -> str:
    return add_dataset(house)


def submit(api: LiveApi, dataset: str, text: str) -> str:
    body = {"model": add_model(api), "dataset": dataset, "name": text, "trigger": text, "metadata": {text[:64]: text}}
    answer = api.client.post("/jobs", json={**body, "samples": {"prompts": [text]}, "steps": 10})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture(scope="module")
def plain(house: LiveApi, browser: httpx.Client, dataset: str) -> Shape:
    """The page of a job with a plain name."""
    return look(browser, f"/ui/jobs/{submit(house, dataset, BENIGN)}")


@pytest.fixture(scope="module")
def missing(browser: httpx.Client) -> Shape:
    return look(browser, "/ui/jobs/job_none", 404)


@pytest.fixture(scope="module")
def login_page(browser: httpx.Client) -> Shape:
    return look(browser, "/ui/login")


@pytest.mark.parametrize("text", TEXTS)
def test_a_jobs_name_trigger_and_prompts(
    house: LiveApi, browser: httpx.Client, dataset: str, plain: Shape, text: str
) -> None:
    """Its page is made of the same elements as that of a job with a plain name."""
    job = submit(house, dataset, text)
    page = look(browser, f"/ui/jobs/{job}")
    assert page.elements == plain.elements
    assert page.says(text), "as it was given, and not as markup"
    rows = look(browser, "/ui/jobs/rows")
    assert rows.says(text) and rows.elements.count(("tr",)) > 1
    assert look(browser, "/ui/jobs").says(text)
    answer = house.client.get(f"/jobs/{job}")
    assert (answer.headers["content-type"], answer.headers["x-content-type-options"]) == ("application/json", "nosniff")
    assert answer.json()["spec"]["name"] == text
    header = attachment(make_filename(text, ".safetensors"))
    quoted = r"attachment; filename=\"[A-Za-z0-9._-]+\.safetensors\"(; filename\*=UTF-8''[A-Za-z0-9._~%-]+)?"
    assert re.fullmatch(quoted, header)


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_said_of_what_is_not_there(
    house: LiveApi, browser: httpx.Client, missing: Shape, login_page: Shape, text: str
) -> None:
    """Errors repeat what they were asked for, as text; the login page, where it was to lead."""
    path = quote(text.rstrip("/"), safe="")
    for kind in ("jobs", "datasets"):
        page = look(browser, f"/ui/{kind}/{path}", 404)
        assert page.elements == missing.elements
    login = look(browser, f"/ui/login?next={quote(text)}")
    assert login.elements == login_page.elements
    assert look(browser, f"/ui/login?token={quote(text)}").says(text)
    problem = house.client.get(f"/jobs/{path}")
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.headers["x-content-type-options"] == "nosniff"


def test_names_of_datasets(house: LiveApi, browser: httpx.Client) -> None:
    plain = house.client.post("/datasets", json={"name": BENIGN}).json()["id"]
    expected = look(browser, f"/ui/datasets/{plain}").elements
    for text in TEXTS:
        made = house.client.post("/datasets", json={"name": text}).json()["id"]
        page = look(browser, f"/ui/datasets/{made}")
        assert page.elements == expected and page.says(text)
        assert look(browser, "/ui/datasets").says(text)


def file_name(text: str) -> str:
    """As it is, where files may be called so."""
    name = f"{text}.png"
    try:
        return check_name(name)
    except InvalidRequest:
        return name.replace("/", "_").replace("\\", "_")


def test_captions_and_names_of_files(house: LiveApi, browser: httpx.Client) -> None:
    """Of pictures that are taken, of those that are left out, and of captions without a picture."""
    names = {f"{number} {file_name(text)}": text for number, text in enumerate(TEXTS)}
    assert len(names) == len(TEXTS)
    parts = [
        *((name, png(number, 64, 64)) for number, name in enumerate(names)),
        *((f"{name[:-4]}.txt", text.encode()) for name, text in names.items()),
        *((f"broken {name}", b"no picture") for name in names),
        *((f"alone {name[:-4]}.txt", text.encode()) for name, text in names.items()),
    ]
    answer = house.client.post("/datasets", files=[("files", part) for part in parts])
    assert answer.status_code == 202, answer.text
    dataset = answer.json()["id"]
    settings = house.settings.model_copy(update={"database_url": workers_url(house)})
    validator = Consumer(Validation, settings, house.sessions, house.storage, threading.Event())
    while house.client.get(f"/datasets/{dataset}").json()["status"] == "validating":
        assert validator.run_next()
    page, num_pages = look(browser, f"/ui/datasets/{dataset}"), 1
    while page.next is not None:
        page.add(look(browser, page.next))
        num_pages += 1
    for name, text in names.items():
        shown = " ".join(text.split())
        assert page.says(shown) and page.says(name) and page.says(f"broken {name}"), text
        assert page.says(f"alone {name[:-4]}.txt")
    assert page.elements.count(("img", "src", "alt", "width", "height", "loading")) == len(TEXTS)
    assert {element[0] for element in page.elements} <= {
        *("html", "head", "meta", "title", "link", "script", "body", "a", "header", "img", "nav", "form", "input"),
        *("button", "main", "p", "div", "h1", "h2", "span", "section", "dl", "dt", "dd", "ul", "li", "figure"),
        *("figcaption", "small", "time", "label", "select", "option", "dialog", "noscript"),
    }
    assert page.elements.count(("script", "type", "src")) == num_pages
