"""The pages in a real browser, while a job runs."""

import hashlib

import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from core.domain.states import Phase
from tests.dashboard.page import (
    assert_no_complaints,
    click,
    find,
    log_in,
    open_job,
    read_attribute,
    read_attributes,
    read_text,
    read_texts,
    read_value,
    until,
    until_shown,
)
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ADAPTER, PROMPTS, ScriptedJob
from tests.fixtures.servers import PostgresHandle


def count_points(browser: Chrome) -> int:
    return len((read_attribute(browser, "#chart .raw", "points")).split())


def test_a_link_leads_home_by_itself_and_tells_how_to_begin(visitor: Chrome, running_api: RunningApi) -> None:
    until(visitor, lambda: visitor.current_url == f"{running_api.url}/ui")
    until_shown(visitor, "#begin", "Three steps to your first adapter")
    visitor.get(f"{running_api.url}/ui/jobs")
    assert "atelier train" in read_text(visitor, ".empty")
    assert_no_complaints(visitor)


def test_the_list_follows_its_jobs(visitor: Chrome, running_api: RunningApi) -> None:
    visitor.get(f"{running_api.url}/ui/jobs")
    until_shown(visitor, "h1", "Jobs")
    visitor.execute_script("window.sameLoad = true")
    job = ScriptedJob(running_api, name="fox")
    until_shown(visitor, "tbody tr", "queued")
    job.start()
    job.enter(Phase.TRAINING)
    job.train_to(40)
    until_shown(visitor, "tbody tr", "running · training")
    until_shown(visitor, "tbody tr", "40/100")
    job.fail()
    until_shown(visitor, "tbody tr", "failed")
    assert visitor.execute_script("return window.sameLoad")
    click(visitor, "tbody a")
    until_shown(visitor, "h1", "fox")
    assert_no_complaints(visitor)


def test_a_jobs_page_follows_it_to_the_end(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    open_job(visitor, job)
    until_shown(visitor, "#events", "Accepted")
    assert read_text(visitor, "#state") == "queued"
    assert read_text(visitor, "#time") == "about 1 min 15 s left"
    assert read_text(visitor, "#waits") == "place 1 in the queue · Waits for a worker"

    job.start()
    job.enter(Phase.TRAINING)
    job.sample(0)
    job.train_to(60)
    until_shown(visitor, "#step", "60 of 100")
    assert read_text(visitor, "#state") == "running · training"
    assert read_text(visitor, "#time") == "about 8 s left"
    assert read_text(visitor, "#time-note") == "Samples, scores and files come after the steps."
    assert read_text(visitor, "#phases [aria-current]") == "Training"
    assert float(read_value(visitor, "#bar") or 0) == 60
    until(visitor, lambda: count_points(visitor) == 60)
    assert not find(visitor, "#downloads").is_displayed()

    job.train_to(100, first=61)
    job.sample(100)
    job.succeed()
    until_shown(visitor, "#state", "succeeded")
    until_shown(visitor, "#sheet thead th", "promoted")
    heads = read_texts(visitor, "#sheet thead th")
    assert heads == ["base", "step 100\npromoted"]
    until(
        visitor,
        lambda: visitor.execute_script(
            "return [...document.querySelectorAll('#sheet img')].every(i => i.naturalWidth == 64)"
        ),
    )
    assert len(visitor.find_elements(By.CSS_SELECTOR, "#sheet img")) == 2 * len(PROMPTS)
    until_shown(visitor, "#result", hashlib.sha256(ADAPTER).hexdigest())
    assert find(visitor, "#downloads").is_displayed()
    assert not find(visitor, "#cancel").is_displayed()
    assert_no_complaints(visitor)


def test_both_adapters_and_the_grid_can_be_downloaded(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    job.run_to_the_end()
    open_job(visitor, job)
    until(visitor, lambda: find(visitor, "#grid").is_displayed())
    cookies = {cookie["name"]: cookie["value"] for cookie in visitor.get_cookies()}
    links = read_attributes(visitor, "#downloads a[download], #grid", "href")
    got = {link.rpartition("/")[2]: httpx.get(link, cookies=cookies) for link in links}
    assert got["adapter?format=kohya"].content == ADAPTER
    assert got["adapter?format=diffusers"].content == ADAPTER[::-1]
    assert 'filename="blip.safetensors"' in got["adapter?format=kohya"].headers["content-disposition"]
    assert got["grid.png"].content.startswith(b"\x89PNG")
    click(visitor, "#downloads a:not([download])")
    until(visitor, lambda: visitor.current_url.startswith(f"{running_api.url}/ui/adapters/ad_"))


def test_what_failed_says_why_and_what_to_do(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    open_job(visitor, job)
    assert not find(visitor, "#error").is_displayed()
    job.start()
    job.fail()
    until(visitor, lambda: find(visitor, "#error").is_displayed())
    assert "The loss became NaN" in read_text(visitor, "#error")
    assert "Lower optimizer.learning_rate" in read_text(visitor, "#error")
    until_shown(visitor, "#sheet-hint", "No samples were drawn.")


def test_canceling_asks_first(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    open_job(visitor, job)
    until_shown(visitor, "#events", "Accepted")
    click(visitor, "#cancel button")
    click(visitor, "dialog button[value='']")
    click(visitor, "#cancel button")
    assert read_text(visitor, "#state") == "queued"
    click(visitor, "dialog button[value=yes]")
    until_shown(visitor, "#state", "canceled")
    assert_no_complaints(visitor)


def test_a_running_job_is_paused_and_resumed(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    job.start()
    open_job(visitor, job)
    click(visitor, "#pause button")
    until_shown(visitor, "#state", "pausing")
    job.acknowledge_stop()
    until_shown(visitor, "#state", "paused")
    click(visitor, "#resume button")
    until_shown(visitor, "#state", "queued")


def test_an_outage_is_shown_and_no_event_is_missed_or_doubled(browser: Chrome, own_api: RunningApi) -> None:
    log_in(browser, own_api)
    job = ScriptedJob(own_api)
    open_job(browser, job)
    job.start()
    job.enter(Phase.TRAINING)
    job.train_to(10)
    until_shown(browser, "#step", "10 of 100")
    own_api.kill()
    until_shown(browser, "#live", "trying again")
    job.train_to(100, first=11)
    job.sample(100)
    job.succeed()
    own_api.start()
    until_shown(browser, "#state", "succeeded")
    titles = read_texts(browser, "#events li span")
    assert titles == ["Succeeded", "Samples at step 100", "Training", "Started on test:0", "Accepted"]
    until(browser, lambda: count_points(browser) == 100)


def test_an_outage_of_the_database_is_shown(browser: Chrome, own_api: RunningApi, postgres: PostgresHandle) -> None:
    log_in(browser, own_api)
    job = ScriptedJob(own_api)
    open_job(browser, job)
    job.start()
    job.enter(Phase.TRAINING)
    until_shown(browser, "#state", "training")
    postgres.kill()
    until_shown(browser, "#live", "trying again")
    postgres.start()
    own_api.sessions.kw["bind"].dispose()
    job.train_to(10)
    until_shown(browser, "#step", "10 of 100")


def test_without_scripts_one_can_log_in_read_and_cancel(browser: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    job.start()
    job.enter(Phase.TRAINING)
    job.train_to(30)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(running_api.login_link())
    click(browser, "#link button")
    until(browser, lambda: browser.current_url == f"{running_api.url}/ui")
    browser.find_element(By.CSS_SELECTOR, "nav a[href='/ui/jobs']").click()
    until_shown(browser, "tbody tr", "30/100")
    open_job(browser, job)
    assert read_text(browser, "#step") == "30 of 100"
    click(browser, "#cancel button")
    until_shown(browser, "#state", "canceling")


@pytest.mark.parametrize("path", ["", "/new", "/jobs", "/jobs/{job}", "/datasets", "/datasets/{dataset}", "/login"])
def test_on_a_phone_no_page_is_wider_than_the_screen(visitor: Chrome, running_api: RunningApi, path: str) -> None:
    job = ScriptedJob(running_api, name="a_very_long_name_without_a_single_space_in_it_to_break_at_" * 2)
    job.run_to_the_end()
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    visitor.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    visitor.get(f"{running_api.url}/ui{path.format(job=job.id, dataset=job.dataset_id)}")
    until(visitor, lambda: visitor.execute_script("return document.readyState") == "complete")
    assert visitor.execute_script("return document.documentElement.scrollWidth") <= 360


def test_what_is_not_there_is_said_on_a_page(visitor: Chrome, running_api: RunningApi) -> None:
    until_shown(visitor, "h1", "Home")
    visitor.get(f"{running_api.url}/ui/jobs/job_00000000000000000000000000")
    assert "There is no job job_0" in read_text(visitor, "main")
