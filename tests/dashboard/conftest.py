"""A real headless Chromium on a real API."""

import shutil
import tempfile
from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.fixtures.running_api import RunningApi, running_api

__all__ = ["running_api"]

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--window-size=1200,1000", "--force-device-scale-factor=1",
)  # fmt: skip


@pytest.fixture
def browser() -> Iterator[Chrome]:
    """Skipped where Chromium is not installed; `make test` installs it, or says loudly that it could not."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs Debian's chromium and chromium-driver")
    options = ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        chrome = Chrome(options, ChromeService(driver))
        try:
            yield chrome
        finally:
            chrome.quit()


@pytest.fixture
def visitor(browser: Chrome, running_api: RunningApi) -> Chrome:
    """Logged in by a one-time link."""
    browser.get(running_api.login_link())
    return browser
