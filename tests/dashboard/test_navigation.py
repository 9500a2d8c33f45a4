"""Back and forward, and connections that are lost on pages with lists."""

from pathlib import Path

import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.dashboard.page import click, find, log_in, read_texts, read_value, until, until_shown
from tests.dashboard.studio import choose_files, type_into, write_pictures
from tests.dashboard.test_datasets import make_dataset
from tests.dashboard.test_jobs import list_names
from tests.dashboard.test_library import train
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob, register_scripted_model
from tests.fixtures.validation import checking


def test_the_list_of_jobs_is_as_one_left_it(visitor: Chrome, running_api: RunningApi) -> None:
    for name in ("fox", "fox cub", "owl"):
        ScriptedJob(running_api, name=name)
    visitor.get(f"{running_api.url}/ui/jobs")
    until(visitor, lambda: len(list_names(visitor)) == 3)
    type_into(find(visitor, "input[name=text]"), "fox")
    until(visitor, lambda: list_names(visitor) == ["fox cub", "fox"])
    click(visitor, "tbody a")
    until_shown(visitor, "h1", "fox cub")
    visitor.back()
    until(visitor, lambda: list_names(visitor) == ["fox cub", "fox"])
    assert read_value(visitor, "input[name=text]") == "fox"
    find(visitor, "select[name=status]").send_keys("queued")
    until(visitor, lambda: "status=queued" in visitor.current_url)
    visitor.forward()
    until_shown(visitor, "h1", "fox cub")
    visitor.back()
    until(visitor, lambda: list_names(visitor) == ["fox cub", "fox"])
    assert read_value(visitor, "select[name=status]") == "queued"


def test_a_new_job_is_as_one_left_it_until_it_is_started(
    visitor: Chrome, running_api: RunningApi, client: httpx.Client, tmp_path: Path
) -> None:
    register_scripted_model(running_api)
    with checking(running_api):
        visitor.get(f"{running_api.url}/ui/new")
        until_shown(visitor, "#model-help", "64 px")
        choose_files(visitor, write_pictures(tmp_path / "blips", 2))
        type_into(find(visitor, "#trigger"), "blip")
        until(visitor, lambda: find(visitor, "#start").is_enabled())
    click(visitor, "nav a[href='/ui/jobs']")
    until_shown(visitor, "h1", "Jobs")
    visitor.back()
    until(visitor, lambda: find(visitor, "#start").is_enabled())
    assert read_value(visitor, "#trigger") == "blip"
    assert len(visitor.find_elements(By.CSS_SELECTOR, "#grid textarea")) == 2
    click(visitor, "#start")
    until_shown(visitor, "#state", "queued")
    visitor.back()
    until(visitor, lambda: len(visitor.find_elements(By.CSS_SELECTOR, "#grid textarea")) == 2)
    assert read_value(visitor, "#trigger") == "", "it is a form for another job, with the same images"
    visitor.forward()
    until_shown(visitor, "#state", "queued")
    assert len(client.get("/jobs").json()["data"]) == 1


def test_the_playground_is_as_one_left_it(visitor: Chrome, running_api: RunningApi, client: httpx.Client) -> None:
    adapter = train(running_api, client)
    visitor.get(f"{running_api.url}/ui/playground")
    until(visitor, lambda: find(visitor, "#draw").is_enabled())
    type_into(find(visitor, "#prompt"), "a kept prompt")
    draft = "return (sessionStorage.getItem('playground') ?? '').includes('a kept prompt')"
    until(visitor, lambda: visitor.execute_script(draft))
    visitor.get(f"{running_api.url}/ui/adapters/{adapter}")
    until_shown(visitor, "#state", "ready")
    visitor.back()
    until(visitor, lambda: read_value(visitor, "#prompt") == "a kept prompt")
    visitor.forward()
    until_shown(visitor, "#state", "ready")


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/jobs", "tbody tr"), ("/datasets", "main li"), ("/adapters", "#adapters li"), ("/compare", "#second option")],
)
def test_what_comes_during_an_outage_is_shown_after_it(
    browser: Chrome, own_api: RunningApi, path: str, shown: str
) -> None:
    log_in(browser, own_api)
    ScriptedJob(own_api, name="before").run_to_the_end()
    browser.get(f"{own_api.url}/ui{path}")
    until(browser, lambda: len(read_texts(browser, shown)) > 0)
    browser.execute_script("window.sameLoad = true")
    before = len(read_texts(browser, shown))
    own_api.kill()
    until_shown(browser, "#live", "The service does not respond; trying again.")
    ScriptedJob(own_api, name="during").run_to_the_end()
    make_dataset(own_api)
    own_api.start()
    until(browser, lambda: len(read_texts(browser, shown)) > before)
    until(browser, lambda: read_texts(browser, "#live") == [""])
    assert browser.execute_script("return window.sameLoad")
