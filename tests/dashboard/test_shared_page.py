"""The page that a link opens: for a stranger, with and without scripts, on a phone."""

import httpx
from selenium.webdriver import Chrome

from tests.dashboard.page import assert_no_complaints, click, find, read_text, read_texts, until_shown
from tests.dashboard.studio import find_violations, resize, set_dark
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob


def share_adapter(api: RunningApi, client: httpx.Client, trigger: str) -> str:
    """With the sample of its last step as the cover. Returns the link's address."""
    job = ScriptedJob(api, name="ceramic fox", trigger=trigger)
    job.run_to_the_end()
    adapter = client.get(f"/jobs/{job.id}").json()["result"]["adapter_id"]
    client.patch(f"/adapters/{adapter}", json={"cover": {"step": 100}, "license": "openrail++"}).raise_for_status()
    return str(client.post(f"/adapters/{adapter}/links", json={}).json()["url"])


def test_the_trigger_is_copied_by_a_button_and_without_scripts_selected_whole(
    browser: Chrome, running_api: RunningApi, client: httpx.Client
) -> None:
    trigger = "fox <b>made</b> of clay"
    address = share_adapter(running_api, client, trigger)
    origin = {"origin": running_api.url, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", origin)
    browser.get(address)
    assert read_text(browser, "#trigger") == trigger
    click(browser, "[data-copies]")
    until_shown(browser, "[data-copies]", "Copied")
    read = "navigator.clipboard.readText().then(arguments[0])"
    assert browser.execute_async_script(read) == trigger
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(address)
    assert not find(browser, "[data-copies]").is_displayed()
    find(browser, "#trigger").click()
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert browser.execute_script("return getSelection().toString()") == trigger
    assert_no_complaints(browser)


def test_it_shows_the_cover_large_and_fits_a_phone(
    browser: Chrome, running_api: RunningApi, client: httpx.Client
) -> None:
    address = share_adapter(running_api, client, "blip")
    for width, is_dark in ((1200, False), (1200, True), (375, False), (375, True)):
        resize(browser, width)
        set_dark(browser, is_dark)
        browser.get(address)
        assert find(browser, ".cover").size["width"] >= min(700, width - 40)
        assert read_text(browser, "h1") == "ceramic fox"
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert find_violations(browser) == []
    assert read_texts(browser, ".tools dt") == ["ComfyUI", "A1111/Forge", "sd-scripts", "diffusers"]
    assert "openrail++" in read_text(browser, "dl") and "scripted" in read_text(browser, "dl")
    set_dark(browser, False)
    assert_no_complaints(browser)
