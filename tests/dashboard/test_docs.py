"""The API's documentation in a real browser, which has no network but loopback."""

from selenium.webdriver import Chrome

from tests.dashboard.page import until_shown
from tests.fixtures.running_api import RunningApi


def test_the_docs_are_shown_without_the_internet(browser: Chrome, running_api: RunningApi) -> None:
    browser.get(f"{running_api.url}/docs")
    until_shown(browser, ".opblock-summary-path", "/jobs")
    assert browser.get_log("browser") == []
