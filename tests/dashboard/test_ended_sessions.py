"""A session that ends while a form is filled in loses no input, on any page, and the action happens once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from sqlalchemy import text

from core.db.tables import Model
from tests.dashboard.page import click, find, log_in, read_value, until, until_shown
from tests.dashboard.studio import type_into
from tests.dashboard.test_datasets import make_dataset
from tests.dashboard.test_library import train
from tests.fixtures.pictures import png
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob

Ids = dict[str, str]


@dataclass(frozen=True)
class Case:
    """``path``: of the page; ``ready``: what is there once it can be filled in. ``fill`` enters something, ``send``
    presses the button. ``count``: how often it has happened, as the API says. ``kept``: a field and its text, which are
    there while the login is awaited."""

    path: str
    ready: str
    fill: Callable[[Chrome, Path], None]
    send: str
    count: Callable[[httpx.Client, Ids], int]
    kept: tuple[str, str] | None = None


def enter(*fields: tuple[str, str]) -> Callable[[Chrome, Path], None]:
    def fill(page: Chrome, _: Path) -> None:
        page.execute_script("for (const one of document.querySelectorAll('main details')) one.open = true")
        for choice in page.find_elements(By.CSS_SELECTOR, "input[value=hub_id]"):
            choice.click()
        for selector, value in fields:
            type_into(find(page, selector), value)

    return fill


def choose_cover(page: Chrome, folder: Path) -> None:
    """The choice itself sends it."""
    (folder / "cover.png").write_bytes(png(1))
    find(page, "#cover-file").send_keys(str(folder / "cover.png"))


def total(
    path: str, wanted: Callable[[dict[str, object]], bool] = lambda _: True
) -> Callable[[httpx.Client, Ids], int]:
    """Of a list of the API."""

    def count(client: httpx.Client, ids: Ids) -> int:
        rows = client.get(path.format(**ids)).raise_for_status().json()["data"]
        return sum(map(wanted, rows))

    return count


def times(action: str) -> Callable[[httpx.Client, Ids], int]:
    """By the audit log."""
    return total(f"/audit?action={action}")


CASES = {
    "captions": Case(
        "/datasets/{dataset}", "#grid textarea", enter(("#grid textarea", "a kept caption")), "#save",
        total("/datasets?parent={dataset}"), ("#grid textarea", "a kept caption"),
    ),
    "find and replace": Case(
        "/datasets/{dataset}", "#grid textarea", enter(("#affixes [name=prefix]", "kept, ")), "#affixes button",
        total("/datasets?parent={dataset}"), ("#affixes [name=prefix]", "kept,"),
    ),
    "playground": Case(
        "/playground", "#model option", enter(("#prompt", "a kept prompt")), "#draw",
        total("/generations"), ("#prompt", "a kept prompt"),
    ),
    "notes": Case(
        "/adapters/{adapter}", "#files a", enter(("#notes", "kept notes")), "#save",
        times("adapter.changed"), ("#notes", "kept notes"),
    ),
    "cover": Case("/adapters/{adapter}", "#files a", enter(), "", times("adapter_cover.sent")),
    "publication": Case(
        "/adapters/{adapter}", "#files a", enter(("#repo", "studio/kept"), ("#token", "hf_of_a_test")),
        "#publish button", total("/adapters/{adapter}/publications"), ("#repo", "studio/kept"),
    ),
    "link": Case("/adapters/{adapter}", "#files a", enter(), "#share button", total("/adapters/{adapter}/links")),
    "samples": Case(
        "/jobs/{job}", "#requests:not([hidden])", enter(("#request [name=prompts]", "a kept prompt")),
        "#request button", total("/jobs/{job}/samples/requests"), ("#request [name=prompts]", "a kept prompt"),
    ),
    "key": Case(
        "/keys", "tbody tr", enter(("#name", "kept")), "#form .primary",
        total("/keys", lambda key: key["name"] == "kept"), ("#name", "kept"),
    ),
    "base": Case(
        "/models", "tbody tr", enter(("#place", "some/kept"), ("#id", "kept")), "#submit",
        total("/models", lambda model: model["id"] == "kept"), ("#place", "some/kept"),
    ),
    "limits": Case(
        "/usage", "#bars progress, #bars .row", enter(("#limit-queued_jobs", "77")), "#form .primary",
        times("quota.changed"), ("#limit-queued_jobs", "77"),
    ),
    "tenant": Case(
        "/usage", "#bars progress, #bars .row", enter(("#tenant-form [name=name]", "kept")), "#tenant-form button",
        total("/tenants", lambda tenant: tenant["name"] == "kept"), ("#tenant-form [name=name]", "kept"),
    ),
    "signing secret": Case("/webhooks", "#reveal", enter(), "#rotate", times("webhook_secret.rotated")),
}  # fmt: skip


@pytest.fixture
def ids(running_api: RunningApi, client: httpx.Client) -> Ids:
    adapter = train(running_api, client)
    running = ScriptedJob(running_api, name="running")
    running.start()
    return {"dataset": make_dataset(running_api), "adapter": adapter, "job": running.id}


@pytest.fixture(autouse=True)
def _no_kept_base(running_api: RunningApi) -> None:
    with running_api.sessions.begin() as session:
        session.query(Model).filter(Model.id == "kept").delete()


def end_sessions(api: RunningApi) -> None:
    with api.sessions.begin() as session:
        session.execute(text("DELETE FROM dashboard_tokens"))


def log_in_elsewhere(browser: Chrome, api: RunningApi) -> None:
    """In another tab, which is closed again."""
    page = browser.current_window_handle
    browser.switch_to.new_window("tab")
    log_in(browser, api)
    browser.close()
    browser.switch_to.window(page)


@pytest.mark.parametrize("name", CASES)
def test_what_was_entered_is_kept_and_sent_once(
    visitor: Chrome, running_api: RunningApi, client: httpx.Client, ids: Ids, tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    before = case.count(client, ids)
    visitor.get(f"{running_api.url}/ui{case.path.format(**ids)}")
    until(visitor, lambda: find(visitor, case.ready))
    case.fill(visitor, tmp_path)
    end_sessions(running_api)
    if case.send:  # by a script, since the page's stream may have asked for a login already
        visitor.execute_script("document.querySelector(arguments[0]).click()", case.send)
    if name == "cover":
        choose_cover(visitor, tmp_path)
    if name == "signing secret":
        visitor.execute_script("document.querySelector('dialog .danger').click()")
    until_shown(visitor, "dialog h2", "Your session has ended")
    assert case.count(client, ids) == before
    click(visitor, "dialog button[value=yes]")  # too early: it is asked again
    until_shown(visitor, "dialog h2", "Your session has ended")
    if case.kept:
        assert read_value(visitor, case.kept[0]).strip() == case.kept[1]
    log_in_elsewhere(visitor, running_api)
    click(visitor, "dialog button[value=yes]")
    until(visitor, lambda: not visitor.find_elements(By.CSS_SELECTOR, "dialog[open]"))
    until(visitor, lambda: case.count(client, ids) == before + 1)
    visitor.refresh()
    until(visitor, lambda: find(visitor, case.ready))
    assert case.count(client, ids) == before + 1
