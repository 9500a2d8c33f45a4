"""Two jobs compared."""

from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from core.domain.states import Phase
from tests.dashboard.page import assert_no_complaints, click, find, read_text, read_texts, until, until_shown
from tests.dashboard.test_job import train_with_steps
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import PROMPTS, ScriptedJob


def test_curves_differences_and_samples_of_two_jobs(visitor: Chrome, running_api: RunningApi) -> None:
    first = ScriptedJob(running_api, name="<b>fox</b>")
    train_with_steps(first)
    second = ScriptedJob(
        running_api, name="owl", seed=7, adapter={"rank": 8}, samples={"prompts": [PROMPTS[0], "owls"]}
    )
    first.succeed()
    second.start()
    second.enter(Phase.TRAINING)
    second.sample(0)
    second.train_to(40)
    visitor.get(f"{running_api.url}/ui/jobs/{first.id}")
    visitor.find_element(By.LINK_TEXT, "Compare").click()
    until_shown(visitor, "#hint", "Pick two jobs")
    until(visitor, lambda: len(Select(find(visitor, "#second")).options) == 3)
    Select(find(visitor, "#second")).select_by_value(second.id)
    until(visitor, lambda: visitor.find_elements(By.CSS_SELECTOR, "#chart .smooth.run-1"))
    assert visitor.current_url.endswith(f"/ui/compare?jobs={first.id},{second.id}")
    assert [text.split(" (")[0] for text in read_texts(visitor, "#legend a")] == ["<b>fox</b>", "owl"]

    def read_differences() -> dict[str, list[str]]:
        rows = "[...document.querySelectorAll('#differences tbody tr')]"
        script = f"return {rows}.map((row) => [...row.children].map((cell) => cell.textContent))"
        return {option: values for option, *values in visitor.execute_script(script)}

    until(visitor, read_differences)
    cells = read_differences()
    assert cells["seed"] == ["0", "7"]
    assert cells["rank"] == ["16", "8"]
    assert "steps" not in cells and "name" not in cells

    assert [key.split(" (")[0] for key in read_texts(visitor, "#legend a")] == ["<b>fox</b>", "owl"]
    prompts = read_texts(visitor, "#stage p")
    assert prompts == ["a large blip on a blue background", "a small blip on a pink background", "owls"]
    captions = read_texts(visitor, "#stage figcaption")
    assert captions == ["step 100", "base", "step 100", "no such sample", "no such sample", "base"]
    find(visitor, "#sliders input").send_keys(Keys.ARROW_LEFT)
    assert read_text(visitor, "#stage figcaption") == "step 75"

    chart = find(visitor, "#chart")
    visitor.execute_script("arguments[0].focus()", chart)
    chart.send_keys(Keys.END)
    readout = read_text(visitor, "#readout")
    assert readout.startswith("Step 100 · <b>fox</b> (") and "owl (" in readout

    second.sample(75)
    second.train_to(80, first=41)
    until(visitor, lambda: read_texts(visitor, "#stage figcaption")[1] == "base")
    click(visitor, "#swap")
    until(visitor, lambda: read_text(visitor, "#legend a").startswith("owl"))
    until_shown(visitor, "#stage figcaption", "step 75")
    assert_no_complaints(visitor)


def test_a_job_that_is_not_there_is_said(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    visitor.get(f"{running_api.url}/ui/compare?jobs={job.id},job_none")
    until_shown(visitor, "#error", "There is no job job_none.")


def test_prompts_that_differ_by_the_trigger_stand_side_by_side(visitor: Chrome, running_api: RunningApi) -> None:
    jobs = [ScriptedJob(running_api, name=name, trigger=name) for name in ("fox", "owl")]
    for job in jobs:
        job.run_to_the_end()
    visitor.get(f"{running_api.url}/ui/compare?jobs={jobs[0].id},{jobs[1].id}")
    until_shown(visitor, "#stage p", "a large fox on a blue background / a large owl on a blue background")
    assert read_texts(visitor, "#stage figcaption") == ["step 100"] * 4
    assert_no_complaints(visitor)
