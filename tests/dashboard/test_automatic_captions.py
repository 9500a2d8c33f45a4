"""Automatic captions on the page for a new job, in a real browser."""

import time
from collections.abc import Iterator

import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.dashboard.page import assert_no_complaints, click, find, until, until_shown
from tests.dashboard.studio import type_into
from tests.dashboard.test_new_job import list_captions
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob


@pytest.fixture
def toy(client: httpx.Client, captioner: None) -> Iterator[None]:
    """A captioner that is ready."""
    client.post("/captioners", json={"hub_id": "toys/toy", "id": "toy"}).raise_for_status()
    while client.get("/captioners").json()["data"][0]["status"] != "ready":
        time.sleep(0.1)
    yield
    client.delete("/captioners/toy").raise_for_status()


def open_images(page: Chrome, api: RunningApi) -> None:
    page.get(f"{api.url}/ui/new?dataset={ScriptedJob(api).dataset_id}")
    until(page, lambda: len(list_captions(page)) == 4)


@pytest.mark.usefixtures("toy")
def test_they_become_a_revision_and_go_back(visitor: Chrome, running_api: RunningApi) -> None:
    open_images(visitor, running_api)
    before = list_captions(visitor)
    until_shown(visitor, "#auto summary", "Caption automatically")
    click(visitor, "#auto summary")
    type_into(find(visitor, "#auto-form [name=prompt]"), "fox")
    type_into(find(visitor, "#auto-form [name=prefix]"), "blip, ")
    click(visitor, "#auto-form [name=only_missing]")
    click(visitor, "#auto-form button")
    until_shown(visitor, "#toasts", "1 image was captioned.")
    assert list_captions(visitor) == ["blip, a toy fox", *before[1:]]
    click(visitor, "#toasts button")
    until(visitor, lambda: list_captions(visitor) == before)
    type_into(find(visitor, "#auto-form [name=prompt]"), "fail")
    click(visitor, "#auto-form button")
    until_shown(visitor, "#captions-error", "the captioner was removed")
    assert_no_complaints(visitor)


def test_without_a_captioner_there_is_nothing_to_choose(visitor: Chrome, running_api: RunningApi) -> None:
    open_images(visitor, running_api)
    assert not visitor.find_element(By.ID, "auto").is_displayed()
