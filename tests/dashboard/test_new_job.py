"""The page for a new job, from images to a queued job, in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.dashboard.studio import checking, choose_files, type_into, write_pictures
from tests.dashboard.test_pages import assert_no_complaints, find, until, until_shown
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import register_scripted_model


@pytest.fixture
def checked(running_api: RunningApi) -> Iterator[RunningApi]:
    register_scripted_model(running_api)
    with checking(running_api):
        yield running_api


@pytest.fixture
def client(running_api: RunningApi) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running_api.url, headers={"Authorization": f"Bearer {running_api.api_key}"}) as client:
        yield client


def test_from_images_to_a_job(visitor: Chrome, checked: RunningApi, client: httpx.Client, tmp_path: Path) -> None:
    visitor.get(f"{checked.url}/ui/new")
    until_shown(visitor, "#model-help", "64 px")
    choose_files(visitor, write_pictures(tmp_path / "blips"))
    until(visitor, lambda: len(visitor.find_elements(By.CSS_SELECTOR, "#grid textarea")) == 6)
    type_into(find(visitor, "#trigger"), "blip")
    until(visitor, lambda: find(visitor, "#start").is_enabled())
    assert find(visitor, "#plan-steps").text
    find(visitor, "#start").click()
    until_shown(visitor, "#state", "queued")
    [job] = client.get("/jobs").json()["data"]
    assert visitor.current_url == f"{checked.url}/ui/jobs/{job['id']}"
    assert job["spec"] == {"trigger": "blip", "preset": "auto"}
    assert_no_complaints(visitor)
