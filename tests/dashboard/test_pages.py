"""The pages in a real browser, while a job runs."""

import hashlib
from collections.abc import Callable

import httpx
import pytest
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from core.domain.states import Phase
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ADAPTER, PROMPTS, ScriptedJob
from tests.fixtures.servers import PostgresHandle


def find(browser: Chrome, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def until(browser: Chrome, condition: Callable[[], object]) -> None:
    """Scripts replace parts of the page between two looks: what is gone or not yet there is looked for again."""
    gone = (StaleElementReferenceException, NoSuchElementException)
    WebDriverWait(browser, 120, 0.05, gone).until(lambda _: condition())


def until_shown(browser: Chrome, selector: str, text: str) -> None:
    until(browser, lambda: any(text in part.text for part in browser.find_elements(By.CSS_SELECTOR, selector)))


def count_points(browser: Chrome) -> int:
    return len((find(browser, "#chart .raw").get_attribute("points") or "").split())


def open_job(browser: Chrome, job: ScriptedJob) -> None:
    browser.get(f"{job.api.url}/ui/jobs/{job.id}")


def assert_no_complaints(browser: Chrome) -> None:
    """Neither an error of a script nor anything that the page's policy forbids."""
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_link_leads_home_by_itself_and_tells_how_to_begin(visitor: Chrome, running_api: RunningApi) -> None:
    until(visitor, lambda: visitor.current_url == f"{running_api.url}/ui")
    until_shown(visitor, "#begin", "Three steps to your first adapter")
    visitor.get(f"{running_api.url}/ui/jobs")
    assert "atelier train" in find(visitor, ".empty").text
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
    until_shown(visitor, "tbody tr", "training")
    until_shown(visitor, "tbody tr", "40/100")
    job.fail()
    until_shown(visitor, "tbody tr", "failed")
    assert visitor.execute_script("return window.sameLoad")
    find(visitor, "tbody a").click()
    until_shown(visitor, "h1", "fox")
    assert_no_complaints(visitor)


def test_a_jobs_page_follows_it_to_the_end(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    open_job(visitor, job)
    until_shown(visitor, "#events", "Accepted")
    assert find(visitor, "#state").text == "queued"
    assert find(visitor, "#time").text == "about 1:15, place 1 in the queue"

    job.start()
    job.enter(Phase.TRAINING)
    job.sample(0)
    job.train_to(60)
    until_shown(visitor, "#step", "60 of 100")
    assert find(visitor, "#state").text == "training"
    assert find(visitor, "#time").text == "0:08"
    assert find(visitor, "#phases [aria-current]").text == "Training"
    assert float(find(visitor, "#bar").get_attribute("value") or 0) == 60
    until(visitor, lambda: count_points(visitor) == 60)
    assert not find(visitor, "#downloads").is_displayed()

    job.train_to(100, first=61)
    job.sample(100)
    job.succeed()
    until_shown(visitor, "#state", "succeeded")
    assert [cell.text for cell in visitor.find_elements(By.CSS_SELECTOR, "#sheet thead th")] == ["base", "step 100"]
    until(
        visitor,
        lambda: visitor.execute_script(
            "return [...document.querySelectorAll('#sheet img')].every(i => i.naturalWidth == 64)"
        ),
    )
    assert len(visitor.find_elements(By.CSS_SELECTOR, "#sheet img")) == 2 * len(PROMPTS)
    assert hashlib.sha256(ADAPTER).hexdigest() in find(visitor, "#result").text
    assert find(visitor, "#downloads").is_displayed()
    assert not find(visitor, "#cancel").is_displayed()
    assert_no_complaints(visitor)


def test_both_adapters_and_the_grid_can_be_downloaded(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    job.run_to_the_end()
    open_job(visitor, job)
    until(visitor, lambda: find(visitor, "#grid").is_displayed())
    cookies = {cookie["name"]: cookie["value"] for cookie in visitor.get_cookies()}
    links = [a.get_attribute("href") or "" for a in visitor.find_elements(By.CSS_SELECTOR, "#downloads a, #grid")]
    got = {link.rpartition("/")[2]: httpx.get(link, cookies=cookies) for link in links}
    assert got["adapter?format=kohya"].content == ADAPTER
    assert got["adapter?format=diffusers"].content == ADAPTER[::-1]
    assert 'filename="blip.safetensors"' in got["adapter?format=kohya"].headers["content-disposition"]
    assert got["grid.png"].content.startswith(b"\x89PNG")


def test_what_failed_says_why_and_what_to_do(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    open_job(visitor, job)
    assert not find(visitor, "#error").is_displayed()
    job.start()
    job.fail()
    until(visitor, lambda: find(visitor, "#error").is_displayed())
    assert "The loss became NaN" in find(visitor, "#error").text
    assert "Lower optimizer.learning_rate" in find(visitor, "#error").text
    until_shown(visitor, "#sheet", "No samples were drawn.")


def test_canceling_asks_first(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    open_job(visitor, job)
    find(visitor, "#cancel button").click()
    find(visitor, "#confirm button[value=no]").click()
    find(visitor, "#cancel button").click()
    assert find(visitor, "#state").text == "queued"
    find(visitor, "#confirm button[value=yes]").click()
    until_shown(visitor, "#state", "canceled")
    assert_no_complaints(visitor)


def test_a_running_job_is_paused_and_resumed(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    job.start()
    open_job(visitor, job)
    find(visitor, "#pause button").click()
    until_shown(visitor, "#state", "pausing")
    job.acknowledge_stop()
    until_shown(visitor, "#state", "paused")
    find(visitor, "#resume button").click()
    until_shown(visitor, "#state", "queued")


def test_held_out_losses_are_drawn_on_a_scale_of_their_own(visitor: Chrome, running_api: RunningApi) -> None:
    """They are many times the training loss here."""
    job = ScriptedJob(running_api)
    job.start()
    job.enter(Phase.TRAINING)
    job.train_to(80)
    for step, loss in ((20, 0.81234), (40, 0.70001), (60, 0.65), (80, 0.66)):
        job.validate(step, loss)
    open_job(visitor, job)
    until(visitor, lambda: len(visitor.find_elements(By.CSS_SELECTOR, "#chart .held-dot")) == 4)
    assert find(visitor, "#held-hint").is_displayed()
    values = [label.text for label in visitor.find_elements(By.CSS_SELECTOR, "#chart .held-value")]
    assert values == ["0.8123", "0.6600"]
    dots = visitor.find_elements(By.CSS_SELECTOR, "#chart .held-dot")
    heights = [float(dot.get_attribute("cy") or 0) for dot in dots]
    assert heights[2] - heights[0] > 0.5 * find(visitor, "#chart").size["height"], "their range fills the chart"
    marks = [
        float(label.text)
        for label in visitor.find_elements(By.CSS_SELECTOR, "#chart text[text-anchor=end]:not(.held-value)")
    ]
    assert max(marks) < 0.5, "the axis is the training loss's"
    assert_no_complaints(visitor)


def test_the_curve_and_the_pictures_are_reached_by_keyboard(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    job.run_to_the_end()
    open_job(visitor, job)
    until(visitor, lambda: find(visitor, "#chart .smooth"))
    chart = find(visitor, "#chart")
    visitor.execute_script("arguments[0].focus()", chart)
    chart.send_keys(Keys.HOME)
    assert find(visitor, "#readout").text.startswith("Step 1 ")
    chart.send_keys(Keys.ARROW_RIGHT)
    assert find(visitor, "#readout").text.startswith("Step 2 ")

    picture = visitor.find_elements(By.CSS_SELECTOR, "#sheet button")[1]
    picture.send_keys(Keys.ENTER)
    until(visitor, lambda: find(visitor, ".viewer").is_displayed())
    captions = [caption.text for caption in visitor.find_elements(By.CSS_SELECTOR, ".viewer figcaption")]
    assert captions == ["base", "step 100"]
    find(visitor, ".viewer button").send_keys(Keys.ESCAPE)
    assert not find(visitor, ".viewer").is_displayed()


def test_an_outage_is_shown_and_no_event_is_missed_or_doubled(browser: Chrome, own_api: RunningApi) -> None:
    browser.get(own_api.login_link())
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
    titles = [item.text for item in browser.find_elements(By.CSS_SELECTOR, "#events li span")]
    assert titles == ["Succeeded", "Samples at step 100", "Training", "Started", "Accepted"]
    until(browser, lambda: count_points(browser) == 100)


def test_an_outage_of_the_database_is_shown(browser: Chrome, own_api: RunningApi, postgres: PostgresHandle) -> None:
    browser.get(own_api.login_link())
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
    find(browser, "#link button").click()
    browser.find_element(By.CSS_SELECTOR, "nav a[href='/ui/jobs']").click()
    until_shown(browser, "tbody tr", "30/100")
    open_job(browser, job)
    assert find(browser, "#step").text == "30 of 100"
    find(browser, "#cancel button").click()
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


def test_a_dataset_shows_its_images_and_what_was_left_out(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    visitor.get(f"{running_api.url}/ui/datasets")
    find(visitor, "tbody a").click()
    until_shown(visitor, "h1", "blips")
    until(
        visitor,
        lambda: visitor.execute_script(
            "return [...document.querySelectorAll('.gallery img')].every(i => i.naturalWidth == 64)"
        ),
    )
    assert len(visitor.find_elements(By.CSS_SELECTOR, ".gallery img")) == 4
    assert "notes.png" in find(visitor, "main").text
    assert "whatever its name says" in find(visitor, "main").text
    assert job.dataset_id in visitor.current_url
    assert_no_complaints(visitor)


def test_what_is_not_there_is_said_on_a_page(visitor: Chrome, running_api: RunningApi) -> None:
    until_shown(visitor, "h1", "Home")
    visitor.get(f"{running_api.url}/ui/jobs/job_00000000000000000000000000")
    assert "There is no job job_0" in find(visitor, "main").text
