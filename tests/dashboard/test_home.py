"""The start page, and what all pages have in common."""

import json
import re

import httpx
import pytest
from selenium.webdriver import Chrome

from app.dashboard.pages import HERE
from app.dashboard.strings import DEFAULT, load_script_texts, load_texts
from core.db.tables import Job
from core.domain.states import Phase
from tests.dashboard.page import assert_no_complaints, find, log_in, read_text, read_texts, until, until_shown
from tests.dashboard.studio import find_violations, resize, set_dark, settle
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob

MAX_SCRIPT_BYTES = 60_000
SERVICE_PAGES = ("/models", "/models/scripted", "/workers", "/usage", "/keys", "/audit", "/webhooks")
PAGES = (
    "",
    "/new",
    "/new?from={job}",
    "/jobs",
    "/datasets",
    "/jobs/{job}",
    "/datasets/{dataset}",
    "/compare?jobs={job},{job}",
    "/playground",
    "/adapters",
    "/adapters/{adapter}",
    *SERVICE_PAGES,
)


def test_it_follows_what_runs_waits_and_ends_without_a_reload(visitor: Chrome, running_api: RunningApi) -> None:
    until(visitor, lambda: find(visitor, "#begin").is_displayed())
    visitor.execute_script("window.sameLoad = true")
    first = ScriptedJob(running_api, name="fox")
    until_shown(visitor, "#current li", "queued")
    assert not find(visitor, "#begin").is_displayed()
    second = ScriptedJob(running_api, name="owl")
    until_shown(visitor, "#current li", "place 2 in the queue")
    first.start()
    first.enter(Phase.TRAINING)
    first.train_to(40)
    until_shown(visitor, "#current li", "40/100")
    until_shown(visitor, "#current li", "place 1 in the queue")
    assert read_texts(visitor, "#current a") == ["fox", "owl"]
    first.sample(100)
    first.train_to(100, first=41)
    first.succeed()
    until_shown(visitor, "#adapters figcaption", "fox")
    until(visitor, lambda: visitor.execute_script("return document.querySelector('#adapters img')?.naturalWidth") == 64)
    second.start()
    second.fail()
    until_shown(visitor, "#failed", "The loss became NaN")
    until(visitor, lambda: find(visitor, "#no-current").is_displayed())
    assert visitor.execute_script("return window.sameLoad")
    assert_no_complaints(visitor)


def test_a_lost_connection_comes_back_without_a_gap(browser: Chrome, own_api: RunningApi) -> None:
    log_in(browser, own_api)
    job = ScriptedJob(own_api, name="fox")
    until_shown(browser, "#current li", "queued")
    own_api.kill()
    until_shown(browser, "#live", "The service does not respond; trying again.")
    job.start()
    job.train_to(30)
    own_api.start()
    until_shown(browser, "#current li", "30/100")
    until(browser, lambda: read_text(browser, "#live") == "")


def test_a_stream_whose_session_has_ended_asks_for_a_login(browser: Chrome, own_api: RunningApi) -> None:
    log_in(browser, own_api)
    job = ScriptedJob(own_api, name="fox")
    until_shown(browser, "#current li", "queued")
    own_api.kill()
    browser.delete_all_cookies()
    own_api.start()
    until_shown(browser, "dialog[open]", "Log in")
    log_in(browser, own_api)
    browser.get(f"{own_api.url}/ui/jobs/{job.id}")
    until_shown(browser, "#state", "queued")
    own_api.kill()
    with own_api.sessions.begin() as session:
        session.delete(session.get_one(Job, job.id))
    own_api.start()
    until_shown(browser, "#live", job.id)


def find_adapter(api: RunningApi) -> str:
    """The id of the newest one."""
    key = {"Authorization": f"Bearer {api.api_key}"}
    return str(httpx.get(f"{api.url}/adapters", headers=key).raise_for_status().json()["data"][0]["id"])


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_at_most_60_kb_of_scripts_and_breaks_no_rule(
    visitor: Chrome, running_api: RunningApi, path: str
) -> None:
    job = ScriptedJob(running_api)
    job.run_to_the_end()
    resize(visitor, 375)
    visitor.get(
        f"{running_api.url}/ui{path.format(job=job.id, dataset=job.dataset_id, adapter=find_adapter(running_api))}"
    )
    settle(visitor)
    loaded = visitor.execute_script(
        "return performance.getEntriesByType('resource').filter(e => e.name.split('?')[0].endsWith('.js'))"
        ".map(e => [e.name, e.decodedBodySize])"
    )
    assert loaded
    assert sum(size for _, size in loaded) <= MAX_SCRIPT_BYTES, loaded
    assert visitor.execute_script("return document.documentElement.scrollWidth") <= 375
    assert_no_complaints(visitor)


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_a_serious_fault_of_accessibility(visitor: Chrome, running_api: RunningApi, path: str) -> None:
    """Neither light nor dark."""
    job = ScriptedJob(running_api)
    job.run_to_the_end()
    page = path.format(job=job.id, dataset=job.dataset_id, adapter=find_adapter(running_api))
    found = {}
    for is_dark in (True, False):
        set_dark(visitor, is_dark)
        visitor.get(f"{running_api.url}/ui{page}")
        settle(visitor)
        found[is_dark] = find_violations(visitor)
    assert found == {True: [], False: []}


def test_every_text_that_is_used_is_there_and_every_one_that_is_there_is_used() -> None:
    files = [path for path in HERE.rglob("*") if path.suffix in {".html", ".js", ".py"}]
    source = "\n".join(path.read_text() for path in files)
    texts = load_texts(DEFAULT)
    used = set(re.findall(r"""\bt\(\s*"([\w.-]+)"\s*[,)]""", source))
    assert len(used) > 80
    assert used <= texts.keys(), used - texts.keys()
    sections = (
        r"family|scope|limit|usage|models\.(memory|on)|status|phase|nav|option|warning|jobs|datasets|plan|proof|requests"
        r"|play\.axis|event|age|duration|explain|audit\.action|home\.step\d"
    )
    made = re.compile(rf"({sections}|job\.(pause|resume|cancel|doing\..*))\b.*|language")
    unused = [key for key in texts if f'"{key}"' not in source and not made.fullmatch(key)]
    assert unused == []
    for path in (HERE / "strings").glob("*.json"):
        assert json.loads(path.read_text(), object_pairs_hook=refuse_repeats).keys() <= texts.keys(), path


def refuse_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A key that is there twice would have the later text in both places."""
    assert len(dict(pairs)) == len(pairs), pairs
    return dict(pairs)


def test_a_pages_texts_are_those_that_its_scripts_name() -> None:
    texts = load_script_texts(DEFAULT, "home")
    assert {"home.place", "status.queued", "error.network"} <= texts.keys()
    assert not {"new.uploading", "login.title", "play.used"} & texts.keys()
    assert texts.items() <= load_script_texts(DEFAULT).items()


def test_an_unknown_language_is_answered_in_english(running_api: RunningApi) -> None:
    for wanted in ("xx", "xx-YY;q=0.9, de;q=0", "en;q=nonsense", "*", ""):
        page = httpx.get(f"{running_api.url}/ui/login", headers={"Accept-Language": wanted})
        assert '<html lang="en"' in page.text
        assert page.headers["vary"] == "Accept-Language"
    assert httpx.get(f"{running_api.url}/ui/strings/..%2fen.js").status_code == 401
    assert httpx.get(f"{running_api.url}/ui/strings/en.js?page=nothing").status_code == 404
    script = httpx.get(f"{running_api.url}/ui/strings/en.js?page=home")
    assert script.headers["content-type"].startswith("text/javascript")
