"""Two tabs of one person: what one changes the other shows without a reload, and an act on what is gone is answered in
words."""

from collections.abc import Iterator

import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.dashboard.page import (
    click,
    find,
    open_job,
    read_text,
    read_texts,
    read_value,
    read_values,
    until,
    until_shown,
)
from tests.dashboard.studio import settle, type_into
from tests.dashboard.test_datasets import make_dataset, open_dataset, read_captions
from tests.dashboard.test_library import open_adapter, train
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob


class Tabs:
    """``browser`` is in one of them at a time; ``other`` is a second window, so that both are seen."""

    def __init__(self, browser: Chrome) -> None:
        self.browser, self.one = browser, browser.current_window_handle
        browser.switch_to.new_window("window")
        self.other = browser.current_window_handle

    def go(self, handle: str) -> None:
        self.browser.switch_to.window(handle)

    def mark(self) -> None:
        """The page in the current one; ``assert_same`` then says that it was not loaded again."""
        self.browser.execute_script("window.sameLoad = true")

    def assert_same(self) -> None:
        assert self.browser.execute_script("return window.sameLoad")

    def close(self) -> None:
        self.go(self.other)
        self.browser.close()
        self.go(self.one)


@pytest.fixture
def tabs(visitor: Chrome) -> Iterator[Tabs]:
    tabs = Tabs(visitor)
    yield tabs
    tabs.close()


def confirm(browser: Chrome) -> None:
    until(browser, lambda: find(browser, "dialog[open] .danger"))
    click(browser, "dialog[open] .danger")


def test_a_deleted_dataset(tabs: Tabs, running_api: RunningApi) -> None:
    browser, dataset = tabs.browser, make_dataset(running_api)
    open_dataset(browser, running_api, dataset)
    type_into(find(browser, "#grid textarea"), "not saved")
    tabs.mark()
    tabs.go(tabs.one)
    open_dataset(browser, running_api, dataset)
    click(browser, "#delete")
    confirm(browser)
    until(browser, lambda: browser.current_url == f"{running_api.url}/ui/datasets")
    tabs.go(tabs.other)
    until_shown(browser, "#page-error", "This dataset was deleted.")
    assert read_captions(browser)[0] == "not saved"
    for gone in ("#save", "#delete", ".heading .state"):
        assert not find(browser, gone).is_displayed(), gone
    tabs.assert_same()


def test_a_dataset_deleted_under_a_form(tabs: Tabs, running_api: RunningApi, client: httpx.Client) -> None:
    browser, dataset = tabs.browser, make_dataset(running_api)
    browser.get(f"{running_api.url}/ui/new?dataset={dataset}")
    until(browser, lambda: len(read_captions(browser)) == 4)
    type_into(find(browser, "#trigger"), "kept")
    tabs.mark()
    client.delete(f"/datasets/{dataset}").raise_for_status()
    until_shown(browser, "#images-error", "These images were deleted.")
    assert find(browser, "#drop").is_displayed() and not find(browser, "#start").is_enabled()
    assert read_value(browser, "#trigger") == "kept"
    other = make_dataset(running_api)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, f"#datasets option[value={other}]"))
    click(browser, f"#datasets option[value={other}]")
    until(browser, lambda: len(read_captions(browser)) == 4 and find(browser, "#start").is_enabled())
    tabs.assert_same()


def test_edited_captions(tabs: Tabs, running_api: RunningApi) -> None:
    browser, dataset = tabs.browser, make_dataset(running_api)
    open_dataset(browser, running_api, dataset)
    before = read_captions(browser)
    tabs.mark()
    tabs.go(tabs.one)
    open_dataset(browser, running_api, dataset)
    type_into(find(browser, "#grid textarea"), "from the first tab")
    click(browser, "#save")
    until_shown(browser, "#toasts", "Saved as a new revision.")
    revision = browser.current_url.rpartition("/")[2]
    tabs.go(tabs.other)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, f"#revisions a[href$='{revision}']"))
    assert read_captions(browser) == before, "this page is of the dataset that never changes"
    type_into(find(browser, "#grid textarea"), "from the second tab")
    click(browser, "#save")
    until_shown(browser, "#toasts", "Saved as a new revision.")
    assert read_captions(browser) == ["from the second tab", *before[1:]]
    tabs.assert_same()


def test_a_job_that_ends_and_is_deleted(tabs: Tabs, running_api: RunningApi) -> None:
    browser, job = tabs.browser, ScriptedJob(running_api, name="fox")
    open_job(browser, job)
    until(browser, lambda: find(browser, "#events li"))  # the script is there
    tabs.mark()
    tabs.go(tabs.one)
    browser.get(f"{running_api.url}/ui/jobs")
    until_shown(browser, "tbody tr", "queued")
    tabs.mark()
    tabs.go(tabs.other)
    click(browser, "#cancel button")
    confirm(browser)
    until_shown(browser, "#state", "canceled")
    tabs.go(tabs.one)
    until_shown(browser, "tbody tr", "canceled")
    tabs.assert_same()
    open_job(browser, job)
    until(browser, lambda: find(browser, "#events li"))
    click(browser, "#delete")
    confirm(browser)
    until(browser, lambda: browser.current_url == f"{running_api.url}/ui/jobs")
    tabs.go(tabs.other)
    until_shown(browser, "#action-error", "This job was deleted.")
    assert not find(browser, "#delete").is_displayed()
    tabs.assert_same()


def test_a_button_on_a_state_that_is_past(tabs: Tabs, running_api: RunningApi) -> None:
    """As if it was pressed before the page heard of the change."""
    browser, job = tabs.browser, ScriptedJob(running_api)
    job.start()
    open_job(browser, job)
    job.fail()
    until_shown(browser, "#state", "failed")
    browser.execute_script("document.querySelector('#resume').hidden = false")
    click(browser, "#resume button")
    until_shown(browser, "#action-error", "only a paused job can be resumed")
    assert read_text(browser, "#state") == "failed"


def test_an_adapter_deleted_while_it_is_described(tabs: Tabs, running_api: RunningApi, client: httpx.Client) -> None:
    browser, adapter = tabs.browser, train(running_api, client)
    open_adapter(browser, running_api, adapter)
    type_into(find(browser, "#notes"), "kept notes")
    tabs.mark()
    job = client.get(f"/adapters/{adapter}").json()["job"]
    client.delete(f"/jobs/{job}").raise_for_status()
    until_shown(browser, "#error", "This adapter was deleted.")
    assert read_value(browser, "#notes") == "kept notes"
    tabs.assert_same()


def test_a_key_revoked_in_another_tab(tabs: Tabs, running_api: RunningApi, client: httpx.Client) -> None:
    browser = tabs.browser
    client.post("/keys", json={"name": "guest", "scopes": ["read"]}).raise_for_status()
    browser.get(f"{running_api.url}/ui/keys")
    until_shown(browser, "tbody tr", "guest")
    tabs.mark()
    tabs.go(tabs.one)
    browser.get(f"{running_api.url}/ui/keys")
    until_shown(browser, "tbody tr", "guest")
    row = next(row for row in browser.find_elements(By.CSS_SELECTOR, "tbody tr") if "guest" in row.text)
    row.find_element(By.CSS_SELECTOR, ".danger").click()
    confirm(browser)
    until_shown(browser, "#toasts", "guest")
    tabs.go(tabs.other)
    # the driver keeps every window focused, so that a window does not get the event when one returns to it
    browser.execute_script("window.dispatchEvent(new Event('focus'))")
    until(browser, lambda: any("guest" in row and "revoked" in row for row in read_texts(browser, "tbody tr")))
    tabs.assert_same()


@pytest.mark.parametrize(
    "path", ["", "/playground", "/datasets/{dataset}", "/jobs/{job}", "/adapters/{adapter}", "/models"]
)
def test_logging_out(tabs: Tabs, running_api: RunningApi, client: httpx.Client, path: str) -> None:
    """The other tab says so by itself, and shows nothing more of what happens."""
    browser, adapter = tabs.browser, train(running_api, client)
    running = ScriptedJob(running_api)
    ids = {"dataset": make_dataset(running_api), "job": running.id, "adapter": adapter}
    browser.get(f"{running_api.url}/ui{path.format(**ids)}")
    until(browser, lambda: read_text(browser, "h1"))
    tabs.mark()
    tabs.go(tabs.one)
    click(browser, "header form button")
    until(browser, lambda: "/ui/login" in browser.current_url)
    running.start()
    tabs.go(tabs.other)
    until_shown(browser, "dialog[open] h2", "Your session has ended")
    tabs.assert_same()


SLOW = """
const send = window.fetch;
window.fetch = async (path, options) => {
  const answer = await send(path, options);
  if (options?.method === "DELETE") await new Promise((go) => setTimeout(go, 2000));
  return answer;
};
const error = document.getElementById(arguments[0]);
const record = () => error.hidden || sessionStorage.setItem("said", error.textContent);
new MutationObserver(record).observe(error, { attributes: true, childList: true });
"""
"""The news of a deletion then comes before its answer; what the page says meanwhile is kept."""


@pytest.mark.parametrize("kind", ["jobs", "datasets"])
def test_who_deletes_is_not_told_that_it_was_deleted(visitor: Chrome, running_api: RunningApi, kind: str) -> None:
    job = ScriptedJob(running_api)
    job.run_to_the_end()
    target, error = (job.id, "action-error") if kind == "jobs" else (make_dataset(running_api), "page-error")
    visitor.get(f"{running_api.url}/ui/{kind}/{target}")
    until(visitor, lambda: find(visitor, "#delete").is_displayed())
    settle(visitor)
    visitor.execute_script(SLOW, error)
    click(visitor, "#delete")
    confirm(visitor)
    until(visitor, lambda: visitor.current_url == f"{running_api.url}/ui/{kind}")
    assert visitor.execute_script("return sessionStorage.getItem('said')") is None


def test_an_open_list_changes_once_it_is_left(visitor: Chrome, running_api: RunningApi, client: httpx.Client) -> None:
    first = make_dataset(running_api)
    visitor.get(f"{running_api.url}/ui/new")
    until(visitor, lambda: list_options(visitor, "#datasets") == ["", first])
    visitor.execute_script("document.getElementById('datasets').focus()")
    second = make_dataset(running_api)
    read = "return performance.getEntriesByName(location.origin + '/datasets?status=ready&limit=100').length"
    until(visitor, lambda: visitor.execute_script(read) > 1)
    settle(visitor)
    assert list_options(visitor, "#datasets") == ["", first]
    visitor.execute_script("document.activeElement.blur()")
    until(visitor, lambda: list_options(visitor, "#datasets") == ["", second, first])

    jobs = [ScriptedJob(running_api).id]
    visitor.get(f"{running_api.url}/ui/compare")
    until(visitor, lambda: list_options(visitor, "#second") == ["", *jobs])
    visitor.execute_script("document.getElementById('first').focus()")
    jobs.insert(0, ScriptedJob(running_api).id)
    read = "return performance.getEntriesByName(location.origin + '/jobs?limit=100').length"
    until(visitor, lambda: visitor.execute_script(read) > 1)
    settle(visitor)
    assert list_options(visitor, "#first") == ["", jobs[1]]
    visitor.execute_script("document.activeElement.blur()")
    until(visitor, lambda: list_options(visitor, "#first") == ["", *jobs])


def list_options(browser: Chrome, selector: str) -> list[str]:
    return read_values(browser, f"{selector} option")
