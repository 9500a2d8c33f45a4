"""Texts that would be code, in a real browser: shown as they are, also where the page's own scripts put them."""

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from core.db.tables import Dataset
from tests.dashboard.page import (
    assert_no_complaints,
    click,
    find,
    open_job,
    read_attributes,
    read_text,
    read_texts,
    read_values,
    until,
    until_shown,
)
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob
from tests.hostile.scripts import TEXTS

CHOSEN = [text for text in TEXTS if text.startswith(("<img src=x onerror=d", "<svg onload", "<script>", '">', "</h1>"))]


def check_nothing_ran(browser: Chrome) -> None:
    assert browser.title != "run"
    assert_no_complaints(browser)


@pytest.mark.parametrize("text", CHOSEN)
def test_a_jobs_page_and_its_stream(visitor: Chrome, running_api: RunningApi, text: str) -> None:
    job = ScriptedJob(running_api, name=text, trigger=text, samples={"prompts": [text, f"a {text}"]})
    job.run_to_the_end()
    open_job(visitor, job)
    until_shown(visitor, "#state", "succeeded")
    assert read_text(visitor, "h1") == text
    until_shown(visitor, "#sheet th[scope=row]", text)
    click(visitor, "#sheet button")
    until_shown(visitor, ".viewer p", text)
    assert find(visitor, ".viewer").get_attribute("aria-label") == text
    until(visitor, lambda: text in visitor.title)
    check_nothing_ran(visitor)


def test_the_list_that_is_fetched_again(visitor: Chrome, running_api: RunningApi) -> None:
    """Its rows are put into the page as markup that the service wrote."""
    visitor.get(f"{running_api.url}/ui/jobs")
    jobs = [ScriptedJob(running_api, name=text) for text in CHOSEN]
    for text in CHOSEN:
        until_shown(visitor, "tbody th a", text)
    jobs[0].start()
    until_shown(visitor, "tbody tr", "loading")
    assert set(read_texts(visitor, "tbody th a")) == set(CHOSEN)
    assert visitor.find_elements(By.CSS_SELECTOR, "tbody img, tbody svg, tbody script") == []
    check_nothing_ran(visitor)


def test_captions_and_names_of_pictures(visitor: Chrome, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    with running_api.sessions.begin() as session:
        row = session.get_one(Dataset, job.dataset_id)
        images = [
            {**image, "caption": text, "name": f"{text}.png"}
            for image, text in zip((row.manifest or {})["images"], CHOSEN, strict=False)
        ]
        row.name, row.manifest = CHOSEN[0], {"images": images}
        row.report = {
            "num_files": 1, "num_images": len(images),
            "left_out": [{"file": text, "reason": text} for text in CHOSEN],
            "warnings": [{"code": "blurry", "message": "Blurred.", "files": CHOSEN}],
        }  # fmt: skip
    visitor.get(f"{running_api.url}/ui/datasets/{job.dataset_id}")
    until_shown(visitor, "h1", CHOSEN[0])
    until(visitor, lambda: len(visitor.find_elements(By.CSS_SELECTOR, "#grid textarea")) == len(images))
    captions = read_values(visitor, "#grid textarea")
    assert captions == [image["caption"] for image in images]
    assert read_attributes(visitor, "main .grid img", "alt") == captions
    assert read_texts(visitor, "#notes dt") == CHOSEN
    click(visitor, "#grid .open")
    until_shown(visitor, "#large-caption", CHOSEN[0])
    assert read_text(visitor, "#large-name") == images[0]["name"]
    check_nothing_ran(visitor)
