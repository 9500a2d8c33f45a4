"""The library of adapters, and the page of one, in a real browser."""

import re
from pathlib import Path

import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from tests.dashboard.page import (
    assert_no_complaints,
    click,
    find,
    read_attribute,
    read_text,
    read_texts,
    read_value,
    until,
    until_shown,
)
from tests.dashboard.studio import drop_paths, type_into
from tests.dashboard.test_playground import count_pictures
from tests.dashboard.test_scripts import CHOSEN, check_nothing_ran
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ADAPTER, ScriptedJob


def train(api: RunningApi, client: httpx.Client, name: str = "blip") -> str:
    """The id of a scripted job's adapter."""
    ScriptedJob(api, name=name, trigger=name).run_to_the_end()
    return str(client.get("/adapters", params={"text": name}).json()["data"][0]["id"])


def open_adapter(page: Chrome, api: RunningApi, adapter: str) -> None:
    page.get(f"{api.url}/ui/adapters/{adapter}")
    until_shown(page, "#state", "ready")


def list_names(page: Chrome) -> list[str]:
    return read_texts(page, "#adapters figcaption > span:first-child")


@pytest.mark.usefixtures("drawer")
def test_from_an_adapter_to_a_picture_and_a_shared_link(
    visitor: Chrome, running_api: RunningApi, client: httpx.Client
) -> None:
    """All by the pages; the link is opened by somebody without a session."""
    adapter = train(running_api, client)
    visitor.get(f"{running_api.url}/ui/adapters")
    until(visitor, lambda: list_names(visitor) == ["blip"])
    click(visitor, "#adapters a")
    until_shown(visitor, "h1", "blip")
    until(visitor, lambda: find(visitor, "#try").is_displayed())
    click(visitor, "#try")
    until(visitor, lambda: read_value(visitor, "#prompt") == "blip")
    click(visitor, "#draw")
    until(visitor, lambda: count_pictures(visitor) == 1)
    click(visitor, ".drawn button")
    until(visitor, lambda: len(visitor.find_elements(By.CSS_SELECTOR, ".viewer .actions > *")) == 6)
    visitor.find_elements(By.CSS_SELECTOR, ".viewer .actions > *")[4].click()
    until_shown(visitor, "#toasts", "the cover of blip")
    assert client.get(f"/adapters/{adapter}").json()["cover"]
    click(visitor, "#stack a")
    until_shown(visitor, "#state", "ready")
    Select(find(visitor, "#days")).select_by_visible_text("30 days")
    click(visitor, "#share button")
    until(visitor, lambda: find(visitor, "#link").is_displayed())
    link = read_value(visitor, "#link")
    visitor.delete_all_cookies()
    visitor.get(link)
    until_shown(visitor, "h1", "blip")
    shared = httpx.get(link).raise_for_status()
    [address, *_] = re.findall(r'href="([^"]*kohya[^"]*)"', shared.text)
    assert httpx.get(httpx.URL(link).join(address)).content == ADAPTER


def test_it_is_searched_and_followed(visitor: Chrome, running_api: RunningApi, client: httpx.Client) -> None:
    visitor.get(f"{running_api.url}/ui/adapters")
    until_shown(visitor, "#nothing", "No adapters yet")
    fox = train(running_api, client, "fox")
    until(visitor, lambda: list_names(visitor) == ["fox"])  # without a reload
    train(running_api, client, "owl")
    client.patch(f"/adapters/{fox}", json={"tags": ["mascot"]}).raise_for_status()
    until(visitor, lambda: list_names(visitor) == ["owl", "fox"])
    until(visitor, lambda: count_covers(visitor) == 2)
    type_into(find(visitor, "#search [name=tag]"), "mascot")
    until(visitor, lambda: list_names(visitor) == ["fox"])
    assert visitor.current_url.endswith("?tag=mascot")
    click(visitor, "#adapters a")
    until_shown(visitor, "h1", "fox")
    visitor.back()
    until(visitor, lambda: list_names(visitor) == ["fox"])
    type_into(find(visitor, "#search [name=text]"), "zebra")
    until_shown(visitor, "#unmatched", "No adapter matches")
    click(visitor, "#reset")
    until(visitor, lambda: list_names(visitor) == ["owl", "fox"])
    assert_no_complaints(visitor)


def count_covers(page: Chrome) -> int:
    return int(
        page.execute_script("return [...document.querySelectorAll('#adapters img')].filter(e => e.naturalWidth).length")
    )


@pytest.mark.usefixtures("checker")
def test_a_dropped_file_is_imported_and_what_was_ignored_is_said(
    visitor: Chrome, running_api: RunningApi, files: Path, client: httpx.Client
) -> None:
    visitor.get(f"{running_api.url}/ui/adapters")
    until(visitor, lambda: find(visitor, "#nothing").is_displayed())
    drop_paths(visitor, find(visitor, "h1"), files / "ink.safetensors")
    until_shown(visitor, "#import-file", "ink.safetensors")
    type_into(find(visitor, "#import-form [name=tags]"), "style, ink")
    click(visitor, "#import-go")
    until_shown(visitor, "#state", "ready")
    until_shown(visitor, "#notes-made", "1 tensor of the file was ignored")
    [adapter] = client.get("/adapters").json()["data"]
    assert (adapter["name"], adapter["tags"]) == ("ink", ["style", "ink"])
    click(visitor, "#delete")
    click(visitor, "dialog .danger")
    until(visitor, lambda: visitor.current_url.endswith("/ui/adapters"))
    assert client.get("/adapters").json()["data"] == []
    until(visitor, lambda: find(visitor, "#nothing").is_displayed())
    drop_paths(visitor, find(visitor, "h1"), files / "bad.safetensors")
    click(visitor, "#import-go")
    until_shown(visitor, "#reason", "this is a LoHa file")
    assert_no_complaints(visitor)


def test_a_chosen_cover_is_shown_and_so_is_the_next(
    visitor: Chrome, running_api: RunningApi, client: httpx.Client
) -> None:
    adapter = train(running_api, client)
    open_adapter(visitor, running_api, adapter)
    shown = set()
    until(visitor, lambda: find(visitor, "#cover-sample").is_displayed())
    for number in range(2):
        click(visitor, "#cover-sample")
        until(visitor, lambda: find(visitor, ".picks button").is_displayed())
        visitor.find_elements(By.CSS_SELECTOR, ".picks button")[number].click()
        until(visitor, lambda: "/cover.png" in read_attribute(visitor, "#cover img", "src"))
        until(visitor, lambda: read_corner(visitor, "#cover img") not in {None, *shown})
        shown.add(read_corner(visitor, "#cover img"))
    visitor.get(f"{running_api.url}/ui/adapters")
    until(visitor, lambda: read_corner(visitor, "#adapters img") in shown)
    assert_no_complaints(visitor)


def read_corner(page: Chrome, selector: str) -> tuple[int, ...] | None:
    """The colour of a picture's first pixel; None while it has not loaded."""
    script = """const picture = document.querySelector(arguments[0]);
    if (!picture?.complete || !picture.naturalWidth) return null;
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d");
    canvas.drawImage(picture, 0, 0);
    return [...canvas.getImageData(0, 0, 1, 1).data];"""
    found = page.execute_script(script, selector)
    return tuple(found) if found else None


@pytest.mark.usefixtures("checker")
def test_it_is_described_compared_and_resized(visitor: Chrome, running_api: RunningApi, client: httpx.Client) -> None:
    train(running_api, client, "ink")
    adapter = train(running_api, client)
    open_adapter(visitor, running_api, adapter)
    assert read_texts(visitor, ".sha code") == [
        file["sha256"] for file in client.get(f"/adapters/{adapter}").json()["files"].values()
    ]
    type_into(find(visitor, "#notes"), "0.7 is enough")
    type_into(find(visitor, "#tags"), "mascot, blue")
    type_into(find(visitor, "#license"), "not a licence!")
    click(visitor, "#save")
    until(visitor, lambda: find(visitor, "#error").is_displayed())
    assert read_value(visitor, "#notes") == "0.7 is enough"
    type_into(find(visitor, "#license"), "openrail++")
    click(visitor, "#save")
    until_shown(visitor, "#toasts", "Saved.")
    found = client.get(f"/adapters/{adapter}").json()
    assert (found["notes"], found["tags"], found["license"]) == ("0.7 is enough", ["mascot", "blue"], "openrail++")
    click(visitor, "#check")
    until(visitor, lambda: find(visitor, ".picks button").is_displayed())
    click(visitor, ".picks button")
    until_shown(visitor, "#check-result", "All fit. They are the same.")
    assert read_text(visitor, "#check-result").count("They are the same.") == 1
    click(visitor, "#cover-sample")
    until(visitor, lambda: find(visitor, ".picks button").is_displayed())
    click(visitor, ".picks button")
    until(visitor, lambda: client.get(f"/adapters/{adapter}").json()["cover"])
    until_shown(visitor, "#cover-none", "Take the cover away")
    type_into(find(visitor, "#rank"), "2")
    click(visitor, "#resize button")
    until_shown(visitor, "#toasts", "is being made")
    click(visitor, "#delete")
    until_shown(visitor, "dialog", "A job's adapter is deleted with its job.")


def test_links_are_listed_and_revoked(visitor: Chrome, running_api: RunningApi, client: httpx.Client) -> None:
    adapter = train(running_api, client)
    link = client.post(f"/adapters/{adapter}/links", json={}).raise_for_status().json()["url"]
    open_adapter(visitor, running_api, adapter)
    until_shown(visitor, "#links", "views: 0, downloads: 0")
    click(visitor, "#links button")
    click(visitor, "dialog .danger")
    until(visitor, lambda: not visitor.find_elements(By.CSS_SELECTOR, "#links li"))
    assert httpx.get(link).status_code == 404
    find(visitor, "#repo").send_keys("studio/blip")
    click(visitor, "#publish button")
    until(visitor, lambda: find(visitor, "#publish-error").is_displayed())


@pytest.mark.parametrize("text", CHOSEN)
def test_what_people_write_stays_text(
    visitor: Chrome, running_api: RunningApi, client: httpx.Client, text: str
) -> None:
    adapter = train(running_api, client)
    changes = {"name": text[:100], "notes": text, "description": text, "tags": [text[:50]]}
    client.patch(f"/adapters/{adapter}", json=changes).raise_for_status()
    open_adapter(visitor, running_api, adapter)
    assert read_text(visitor, "h1") == text[:100].strip()
    visitor.get(f"{running_api.url}/ui/adapters")
    until(visitor, lambda: list_names(visitor) == [text[:100].strip()])
    check_nothing_ran(visitor)
