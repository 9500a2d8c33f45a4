"""A real headless Chromium on a real API."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.fixtures.captions import captioner
from tests.fixtures.drawing import drawer
from tests.fixtures.imports import checker, files
from tests.fixtures.running_api import RunningApi, own_api, running_api, shared_api

__all__ = ["captioner", "checker", "drawer", "files", "own_api", "running_api", "shared_api"]

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--window-size=1200,1000", "--force-device-scale-factor=1",
)  # fmt: skip


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chrome]:
    """Skipped where Chromium is not installed; `make test` installs it, or says loudly that it could not."""
    if shutil.which("chromium") is None or shutil.which("chromedriver") is None:
        pytest.skip("needs Debian's chromium and chromium-driver")
    with open_chromium() as chrome:
        yield chrome


@contextmanager
def open_chromium() -> Iterator[Chrome]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert program is not None and driver is not None, "needs Debian's chromium and chromium-driver"
    options = ChromeOptions()
    options.binary_location = program
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
def browser(chromium: Chrome) -> Chrome:
    """One process for all tests; nothing of an earlier test is left in it."""
    chromium.get("about:blank")
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.get_log("browser")
    return chromium


@pytest.fixture
def client(running_api: RunningApi) -> Iterator[httpx.Client]:
    """The API as its owner's programs see it."""
    key = {"Authorization": f"Bearer {running_api.api_key}"}
    with httpx.Client(base_url=running_api.url, headers=key) as client:
        yield client


@pytest.fixture
def visitor(browser: Chrome, running_api: RunningApi) -> Chrome:
    """Logged in, at the first page. Pages that others log in on, by a one-time link, are in test_service_pages.py."""
    with httpx.Client(base_url=running_api.url) as client:
        form, here = {"api_key": running_api.api_key}, {"Sec-Fetch-Site": "same-origin"}
        assert client.post("/ui/login", data=form, headers=here).status_code == 303
        (cookie,) = client.cookies.jar
    attributes = {"url": running_api.url, "path": "/", "httpOnly": True, "sameSite": "Strict"}
    browser.execute_cdp_cmd("Network.setCookie", {"name": cookie.name, "value": cookie.value, **attributes})
    browser.get(f"{running_api.url}/ui")
    assert browser.current_url == f"{running_api.url}/ui"
    browser.execute_script("sessionStorage.clear()")  # drafts of an earlier test
    return browser
