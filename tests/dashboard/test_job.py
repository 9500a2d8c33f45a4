"""A job's page: its samples, its curve, its steps, and what can be done there."""

from typing import Any

import httpx
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from core.db import job_outputs, promotions
from core.db.tables import Job, JobMetric
from core.db.workers import record_worker
from core.domain.states import Phase
from tests.dashboard.page import (
    assert_no_complaints,
    click,
    find,
    open_job,
    read_attribute,
    read_attributes,
    read_text,
    read_texts,
    until,
    until_shown,
)
from tests.dashboard.studio import find_violations, settle
from tests.dashboard.test_pages import count_points
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import PROMPTS, ScriptedJob, step_adapter

TOOL = {"required": True, "loads": True, "verdict": "same", "num_keys": 594, "num_resolved": 594}
PARTIAL = {
    "tool": "a1111", **TOOL, "required": False, "verdict": "partial", "num_resolved": 591,
    "dropped": [{"key": "lora_<b>", "reason": "A1111 has no rule for <b>it</b>."}],
}  # fmt: skip
PROOFS = {"kohya": {"format": "kohya", "family": "sd1", "tools": [{"tool": "comfyui", **TOOL}, PARTIAL]}}


def train_with_steps(job: ScriptedJob) -> None:
    """Samples and kept adapters at 25, 50, 75 and 100; the held-out loss is lowest at 50."""
    job.start()
    job.enter(Phase.TRAINING)
    job.sample(0)
    for step, loss in ((25, 0.81234), (50, 0.65), (75, 0.66), (100, 0.70)):
        job.train_to(step, first=step - 24)
        job.validate(step, loss)
        job.sample(step)
        job.keep_adapter(step)


def amend_result(api: RunningApi, job: ScriptedJob, metrics: dict[str, Any], **parts: Any) -> None:
    with api.sessions.begin() as session:
        row = session.get_one(Job, job.id)
        result = row.result or {}
        row.result = {**result, **parts, "metrics": {**result["metrics"], **metrics}}


def set_range(browser: Chrome, field: WebElement, value: int) -> None:
    script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
    browser.execute_script(script, field, value)


def list_numbers(browser: Chrome, selector: str, attribute: str | None = None) -> list[float]:
    """The elements' texts, or an attribute of each."""
    return list(
        map(float, read_attributes(browser, selector, attribute) if attribute else read_texts(browser, selector))
    )


def test_both_losses_have_an_axis_of_their_own_and_the_best_step_is_marked(
    visitor: Chrome, running_api: RunningApi
) -> None:
    """The held-out losses are many times the training loss here."""
    job = ScriptedJob(running_api)
    train_with_steps(job)
    job.succeed()
    open_job(visitor, job)
    until_shown(visitor, "#chart .mark-text", "promoted")
    assert max(list_numbers(visitor, "#chart .left-tick")) < 0.5
    held = list_numbers(visitor, "#chart .held-tick")
    assert min(held) > 0.6 and max(held) < 0.85
    heights = list_numbers(visitor, "#chart .held-dot", "cy")
    assert heights[1] - heights[0] > 0.5 * find(visitor, "#chart").size["height"], "their range fills the chart"
    assert read_texts(visitor, ".mark-text") == ["best", "promoted"]
    [best, _] = list_numbers(visitor, ".mark-text", "x")
    assert abs(best - list_numbers(visitor, "#chart .held-dot", "cx")[1]) < 10
    assert_no_complaints(visitor)


def test_the_curve_is_read_by_keyboard_and_smoothed(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    train_with_steps(job)
    open_job(visitor, job)
    until(visitor, lambda: count_points(visitor) == 100)
    chart = find(visitor, "#chart")
    visitor.execute_script("arguments[0].focus()", chart)
    chart.send_keys(Keys.HOME)
    assert read_text(visitor, "#readout").startswith("Step 1 · loss 0.2100")
    chart.send_keys(Keys.END)
    assert "Step 100 " in read_text(visitor, "#readout")
    assert "held-out loss 0.7000 at step 100" in read_text(visitor, "#readout")
    set_range(visitor, find(visitor, "#smoothing"), 0)
    until(
        visitor,
        lambda: (
            find(visitor, "#chart .raw").get_attribute("points")
            == find(visitor, "#chart .smooth").get_attribute("points")
        ),
    )
    rough = find(visitor, "#chart .smooth").get_attribute("points")
    set_range(visitor, find(visitor, "#smoothing"), 100)
    until(visitor, lambda: find(visitor, "#chart .smooth").get_attribute("points") != rough)


def test_the_slider_shows_each_step_beside_the_base(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    train_with_steps(job)
    open_job(visitor, job)
    until_shown(visitor, "#scrub-text", "step 100")
    assert read_texts(visitor, "#stage small") == ["base", "step 100"] * 2
    find(visitor, "#scrub").send_keys(Keys.HOME)
    assert read_text(visitor, "#scrub-text") == "step 25"
    sources = read_attributes(visitor, "#stage img", "src")
    assert [source.rpartition("/samples/")[2] for source in sources] == ["0/0.png", "25/0.png", "0/1.png", "25/1.png"]
    assert set(read_attributes(visitor, "#sheet .chosen", "data-step")) == {"25"}
    click(visitor, "#play")
    until(visitor, lambda: read_text(visitor, "#scrub-text") == "step 50 · best")
    until(visitor, lambda: read_text(visitor, "#scrub-text") == "step 100" and read_text(visitor, "#play") == "Play")


def test_the_viewer_walks_over_prompts_and_steps_and_keeps_its_zoom(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    train_with_steps(job)
    open_job(visitor, job)
    until_shown(visitor, "#scrub-text", "step 100")
    find(visitor, "#sheet td:nth-child(4) button").send_keys(Keys.ENTER)
    until(visitor, lambda: find(visitor, ".viewer").is_displayed())
    viewer = find(visitor, ".viewer")

    def read() -> tuple[list[str], str]:
        return [part.text for part in viewer.find_elements(By.TAG_NAME, "figcaption")], read_text(visitor, ".viewer p")

    prompts = [prompt.replace("{trigger}", "blip") for prompt in PROMPTS]
    assert read() == (["base", "step 50"], prompts[0])
    keys = find(visitor, ".viewer .primary")
    keys.send_keys("++")
    keys.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP)
    assert read() == (["base", "step 75"], prompts[1])
    assert read_text(visitor, "#scrub-text") == "step 75", "the page follows"
    widths = visitor.execute_script("return [...document.querySelectorAll('.viewer img')].map(i => i.style.width)")
    assert widths == ["400%", "400%"]
    visitor.execute_script("document.querySelector('.viewer .frame').scrollTo(90, 70)")
    until(
        visitor, lambda: visitor.execute_script("return document.querySelectorAll('.viewer .frame')[1].scrollTop") == 70
    )
    keys.send_keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert [part.text for part in viewer.find_elements(By.TAG_NAME, "figcaption") if part.is_displayed()] == ["base"]
    keys.send_keys(Keys.ESCAPE)
    assert not viewer.is_displayed()
    assert_no_complaints(visitor)


def test_another_step_is_taken_and_each_can_be_downloaded(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    train_with_steps(job)
    open_job(visitor, job)
    until_shown(visitor, "#step-files", "Download step 100, kohya")
    assert not find(visitor, "#take").is_displayed(), "not before the job has succeeded"
    find(visitor, "#scrub").send_keys(Keys.HOME)
    job.succeed()
    until(visitor, lambda: find(visitor, "#take").is_displayed())
    cookies = {cookie["name"]: cookie["value"] for cookie in visitor.get_cookies()}
    link = read_attribute(visitor, "#step-files a", "href")
    assert httpx.get(link, cookies=cookies).content == step_adapter(25, "kohya")
    click(visitor, "#take")
    until_shown(visitor, "dialog[open]", "Make step 25 the job's adapter?")
    click(visitor, "dialog[open] button[value=yes]")
    claims: list[Any] = []

    def claim() -> bool:
        claims.append(job.write(promotions.claim_promotion, lease_seconds=60))
        return claims[-1] is not None

    until(visitor, claim)
    assert not find(visitor, "#take").is_enabled()
    job.write(promotions.commit_promotion, claims[-1], {})
    until_shown(visitor, "#toasts", "The adapter is that of step 25 now.")
    assert read_text(visitor, "#scrub-text") == "step 25 · promoted"
    assert not find(visitor, "#take").is_displayed()
    assert_no_complaints(visitor)


def test_samples_are_requested_while_it_trains(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    job.start()
    job.enter(Phase.TRAINING)
    job.train_to(10)
    open_job(visitor, job)
    until(visitor, lambda: find(visitor, "#requests").is_displayed())
    click(visitor, "#requests summary")
    find(visitor, "#request textarea").send_keys("a {trigger} at sea\na <b>glass</b> {trigger}")
    click(visitor, "#request button")
    until_shown(visitor, "#drawn", "Waits for the next step")
    job.draw_requested(11)
    until_shown(visitor, "#drawn", "step 11")
    until(visitor, lambda: visitor.execute_script("return document.querySelector('#drawn img').naturalWidth") == 64)
    assert read_texts(visitor, "#drawn figcaption") == [
        "a blip at sea", "a <b>glass</b> blip",
    ]  # fmt: skip
    job.fail()
    until(visitor, lambda: not find(visitor, "#request").is_displayed())
    assert find(visitor, "#drawn img").is_displayed()


def test_scores_and_the_load_proof_are_said_in_words(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    train_with_steps(job)
    job.succeed()
    amend_result(
        running_api, job, {"retention": 0.93, "validation_loss": 0.7, "base_validation_loss": 1.0, "step": 100},
        proofs=PROOFS, warnings=["<i>careful</i>"],
    )  # fmt: skip
    open_job(visitor, job)
    until_shown(visitor, "#result", "keeps 93 % of the base's answers to neutral prompts")
    assert "0.7000, 30 % below the base's 1.0000" in read_text(visitor, "#result")
    assert "<i>careful</i>" in read_text(visitor, "#result")
    lines = read_texts(visitor, ".proofs > li")
    assert lines[0] == "comfyui applies the whole adapter as it was trained."
    assert lines[1].startswith("a1111 applies a part of it: 591 of 594 keys.")
    click(visitor, ".proofs summary")
    assert "A1111 has no rule for <b>it</b>." in read_text(visitor, ".proofs")
    assert_no_complaints(visitor)


def test_a_paused_job_shows_no_phase_as_done(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    job.start()
    job.enter(Phase.TRAINING)
    job.train_to(40)
    open_job(visitor, job)
    until_shown(visitor, "#step", "40 of 100")
    until_shown(visitor, "#events", "Training")
    assert read_texts(visitor, "#phases .done") == ["Loading", "Caching"]
    click(visitor, "#pause button")
    until_shown(visitor, "#state", "pausing")
    job.acknowledge_stop()
    until_shown(visitor, "#waits", "Paused.")
    assert visitor.find_elements(By.CSS_SELECTOR, "#phases .done, #phases [aria-current]") == []


def test_a_job_is_deleted_after_a_question(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api, name="old one")
    job.run_to_the_end()
    open_job(visitor, job)
    until_shown(visitor, "#events", "Succeeded")
    click(visitor, "#delete")
    assert "Delete old one?" in read_text(visitor, "dialog[open]")
    click(visitor, "dialog[open] .danger")
    until(visitor, lambda: visitor.current_url == f"{running_api.url}/ui/jobs")
    with running_api.sessions() as session:
        assert session.get(Job, job.id) is None


def test_a_hundred_thousand_metrics_are_thinned(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    job.run_to_the_end()
    with running_api.sessions.begin() as session:
        session.query(JobMetric).filter_by(job_id=job.id).delete()
        session.bulk_insert_mappings(
            JobMetric.__mapper__,
            [
                {
                    "job_id": job.id, "step": n, "attempt": 1, "loss": 1 / n**0.1, "learning_rate": 1e-3,
                    "seconds_per_step": 0.1, "validation_loss": 0.5 if n in (30_001, 70_003) else None,
                }
                for n in range(1, 100_001)
            ],
        )  # fmt: skip
    with running_api.sessions() as session:
        shown = job_outputs.thin_metrics(session, job.id, after_step=-1, max_points=500)
        assert 490 <= len(shown) <= 503
        assert shown[0].step == 1 and shown[-1].step == 100_000
        assert [row.step for row in shown if row.validation_loss] == [30_001, 70_003]
        assert job_outputs.thin_metrics(session, job.id, after_step=100_000, max_points=500) == []
    open_job(visitor, job)
    until(visitor, lambda: count_points(visitor) > 900)
    assert count_points(visitor) < 2100, "the service thins the history"
    assert len(visitor.find_elements(By.CSS_SELECTOR, "#chart .held-dot")) == 2
    find(visitor, "#chart").send_keys(Keys.END)
    assert "Step 100,000 " in read_text(visitor, "#readout")


def test_a_reader_sees_no_actions(browser: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    train_with_steps(job)
    answer = httpx.post(
        f"{running_api.url}/keys",
        headers={"Authorization": f"Bearer {running_api.api_key}"},
        json={"name": "eyes", "scopes": ["read"]},
    )
    browser.get(f"{running_api.url}/ui/login")
    find(browser, "input[name=api_key]").send_keys(answer.json()["secret"])
    click(browser, "form[action='/ui/login'] button")
    until(browser, lambda: browser.current_url == f"{running_api.url}/ui")
    open_job(browser, job)
    until_shown(browser, "#scrub-text", "step 100")
    settle(browser)
    for wanted in ("#pause", "#cancel", "#delete", "#take", "#again", "#request"):
        assert browser.find_elements(By.CSS_SELECTOR, wanted) == [], wanted
    assert_no_complaints(browser)


def test_before_the_first_step_the_page_says_what_is_done_and_the_time_of_the_whole(
    visitor: Chrome, running_api: RunningApi
) -> None:
    job = ScriptedJob(running_api)
    job.start()
    job.enter(Phase.CACHING)
    job.count_units(3, 12)
    open_job(visitor, job)
    until_shown(visitor, "#time-note", "caching images and captions: 3 of 12")
    assert read_text(visitor, "#time") == "about 1 min 15 s in all"
    job.count_units(7, 12)
    until_shown(visitor, "#time-note", "caching images and captions: 7 of 12")
    job.enter(Phase.TRAINING)
    job.train_to(100)
    until_shown(visitor, "#time", "steps done")
    job.enter(Phase.EXPORTING)
    until_shown(visitor, "#time-note", "proving that tools load them")
    assert_no_complaints(visitor)


def test_the_page_names_the_worker_and_the_base(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    open_job(visitor, job)
    until_shown(visitor, "#events", "Accepted")
    assert "Worker" not in read_text(visitor, ".about")
    with running_api.sessions.begin() as session:
        record_worker(
            session, worker_id="test:0", device="cuda:0", device_name="NVIDIA <b>H200</b>", memory_bytes=None,
            job_id=job.id, warm_models=[],
        )  # fmt: skip
    job.start()
    until_shown(visitor, "#worker", "Worker test:0 (NVIDIA <b>H200</b>)")
    assert read_attributes(visitor, ".about a", "href") == [
        f"{running_api.url}/ui/{path}" for path in ("models/scripted", f"datasets/{job.dataset_id}", "workers")
    ]
    assert read_text(visitor, ".about").startswith("Base scripted · Trigger blip · Dataset blips · Worker test:0")
    until_shown(visitor, "#events", "Started on test:0")
    assert_no_complaints(visitor)


def test_words_of_the_result_unfold_what_they_mean(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    train_with_steps(job)
    job.succeed()
    amend_result(running_api, job, {"validation_loss": 0.65, "base_validation_loss": 0.8, "retention": 0.91})
    open_job(visitor, job)
    until_shown(visitor, "#result-rows", "Held-out loss")
    words = ["Step of the adapter", "Held-out loss", "Retention", "Final loss"]
    assert read_texts(visitor, "#result-rows .term summary") == words
    assert not any(read_texts(visitor, "#result-rows .term p")), "they are folded"
    visitor.execute_script("document.querySelector('#result-rows .term summary').focus()")
    visitor.switch_to.active_element.send_keys(Keys.ENTER)
    until_shown(visitor, "#result-rows .term p", "The step whose weights the adapter has")
    for number in range(1, 4):
        visitor.find_elements(By.CSS_SELECTOR, "#result-rows .term summary")[number].click()
    meanings = read_texts(visitor, "#result-rows .term p")
    assert "lower is better; compare only within one job" in meanings[1]
    assert "higher is better" in meanings[2] and "compare only within one job" in meanings[3]
    click(visitor, "#legend summary")
    titles = ["training loss", "held-out loss (dashed)", "best", "promoted"]
    assert read_texts(visitor, ".legend dt") == titles
    assert all(read_texts(visitor, ".legend dd"))
    assert find_violations(visitor) == []
    assert_no_complaints(visitor)
