"""Finds, reads and waits in a page that its scripts change meanwhile."""

from collections.abc import Callable
from typing import TypeVar

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob

Value = TypeVar("Value")


def find(browser: Chrome, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def click(browser: Chrome, selector: str) -> None:
    """The first element; the one that a script has put in its place meanwhile, if it has."""
    while True:
        try:
            return find(browser, selector).click()
        except StaleElementReferenceException:
            continue


def _read(browser: Chrome, selector: str, read: Callable[[WebElement], Value]) -> list[Value]:
    """Again from the start, if a script replaces an element between the finding and the reading."""
    while True:
        try:
            return [read(element) for element in browser.find_elements(By.CSS_SELECTOR, selector)]
        except StaleElementReferenceException:
            continue


def read_texts(browser: Chrome, selector: str) -> list[str]:
    """The visible text of each element."""
    return _read(browser, selector, lambda element: element.text)


def read_text(browser: Chrome, selector: str) -> str:
    """Of the first element. NoSuchElementException if there is none."""
    return _first(read_texts(browser, selector), selector)


def read_attributes(browser: Chrome, selector: str, name: str) -> list[str]:
    """As Selenium's ``get_attribute`` gives them, "" where one is missing."""
    return _read(browser, selector, lambda element: element.get_attribute(name) or "")


def read_attribute(browser: Chrome, selector: str, name: str) -> str:
    """Of the first element. NoSuchElementException if there is none."""
    return _first(read_attributes(browser, selector, name), selector)


def read_values(browser: Chrome, selector: str) -> list[str]:
    """Of fields."""
    return read_attributes(browser, selector, "value")


def read_value(browser: Chrome, selector: str) -> str:
    """Of the first field. NoSuchElementException if there is none."""
    return _first(read_values(browser, selector), selector)


def _first(values: list[str], selector: str) -> str:
    if not values:
        raise NoSuchElementException(selector)
    return values[0]


def until(browser: Chrome, condition: Callable[[], object]) -> None:
    """Scripts replace parts of the page between two looks: what is gone or not yet there is looked for again."""
    gone = (StaleElementReferenceException, NoSuchElementException)
    WebDriverWait(browser, 120, 0.05, gone).until(lambda _: condition())


def until_shown(browser: Chrome, selector: str, text: str) -> None:
    until(browser, lambda: any(text in part for part in read_texts(browser, selector)))


def log_in(browser: Chrome, api: RunningApi) -> None:
    """By a one-time link, whose page sends itself: to go elsewhere before it has would be to cancel that."""
    browser.get(api.login_link())
    until(browser, lambda: browser.current_url == f"{api.url}/ui")


def open_job(browser: Chrome, job: ScriptedJob) -> None:
    browser.get(f"{job.api.url}/ui/jobs/{job.id}")


def assert_no_complaints(browser: Chrome) -> None:
    """Neither an error of a script nor anything that the page's policy forbids."""
    found = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert found == [], found
