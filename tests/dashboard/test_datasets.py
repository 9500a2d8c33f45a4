"""Datasets: the list with covers, and one with its images, captions and revisions."""

from pathlib import Path

import httpx
from PIL import Image
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By

from core.db.tables import Dataset
from core.domain.ids import new_id
from tests.dashboard.page import (
    assert_no_complaints,
    click,
    find,
    read_attribute,
    read_text,
    read_texts,
    until,
    until_shown,
)
from tests.dashboard.studio import settle, type_into
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob, add_dataset
from tests.fixtures.validation import checking


def make_dataset(api: RunningApi) -> str:
    """Four images that no job uses; the first has no caption, and is three times as wide as high."""
    dataset_id = new_id("ds")
    with api.sessions.begin() as session:
        add_dataset(session, api, dataset_id)
        session.flush()
        row = session.get_one(Dataset, dataset_id)
        images = (row.manifest or {})["images"]
        row.manifest = {"images": [{**images[0], "width": 192}, *images[1:]]}
    return dataset_id


def call(api: RunningApi) -> httpx.Client:
    return httpx.Client(base_url=api.url, headers={"Authorization": f"Bearer {api.api_key}"})


def open_dataset(browser: Chrome, api: RunningApi, dataset_id: str) -> None:
    browser.get(f"{api.url}/ui/datasets/{dataset_id}")
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#grid .shot"))


def read_captions(browser: Chrome) -> list[str]:
    script = "return [...document.querySelectorAll('#grid textarea')].map((area) => area.value)"
    found: list[str] = browser.execute_script(script)
    return found


def test_the_list_has_covers_and_follows_what_is_new(visitor: Chrome, running_api: RunningApi) -> None:
    visitor.get(f"{running_api.url}/ui/datasets")
    until_shown(visitor, ".empty", "No datasets")
    first = ScriptedJob(running_api).dataset_id
    with call(running_api) as client:
        client.post("/datasets", json={"name": "<b>open</b>"}).raise_for_status()
    until_shown(visitor, ".sets li", "<b>open</b>")
    until(visitor, lambda: visitor.execute_script("return document.querySelector('.sets img').naturalWidth") == 64)
    cards = [text.split("\n") for text in read_texts(visitor, ".sets li")]
    assert cards[0][0] == "<b>open</b>" and "open" in cards[0]
    assert cards[1][0] == "blips" and cards[1][1].startswith("4 images · ") and cards[1][2] == "missing captions"
    click(visitor, f"a[href$='{first}']")
    until_shown(visitor, "h1", "blips")
    assert_no_complaints(visitor)


def test_it_shows_its_images_and_what_was_left_out(visitor: Chrome, running_api: RunningApi) -> None:
    dataset_id = make_dataset(running_api)
    open_dataset(visitor, running_api, dataset_id)
    loaded = "return [...document.querySelectorAll('#grid img')].every((image) => image.naturalWidth == 64)"
    until(visitor, lambda: visitor.execute_script(loaded))
    assert len(read_captions(visitor)) == 4
    assert "notes.png" in read_text(visitor, "#notes")
    assert "whatever its name says" in read_text(visitor, "#notes")
    assert "Has no caption" in read_text(visitor, "#grid .warned")
    cookies = {cookie["name"]: cookie["value"] for cookie in visitor.get_cookies()}
    for link in visitor.find_elements(By.CSS_SELECTOR, "#zips a"):
        answer = httpx.get(link.get_attribute("href") or "", cookies=cookies)
        assert answer.content.startswith(b"PK")
    assert (read_attribute(visitor, "#train", "href")).endswith(f"/ui/new?dataset={dataset_id}")
    assert_no_complaints(visitor)


def test_an_edited_caption_makes_a_revision_that_is_shown_and_undone(visitor: Chrome, running_api: RunningApi) -> None:
    dataset_id = make_dataset(running_api)
    open_dataset(visitor, running_api, dataset_id)
    assert not find(visitor, "#revisions").is_displayed()
    before = read_captions(visitor)
    type_into(find(visitor, "#grid textarea"), "a <i>glass</i> blip")
    click(visitor, "#save")
    until_shown(visitor, "#toasts", "Saved as a new revision.")
    assert dataset_id not in visitor.current_url
    revision = visitor.current_url.rpartition("/")[2]
    assert read_captions(visitor) == ["a <i>glass</i> blip", *before[1:]]
    with call(running_api) as client:
        assert client.get(f"/datasets/{revision}").json()["parent"] == dataset_id
        assert [row["id"] for row in client.get(f"/datasets?parent={dataset_id}").json()["data"]] == [revision]
    links = visitor.find_elements(By.CSS_SELECTOR, "#revisions a")
    assert [link.get_attribute("aria-current") for link in links] == [None, "page"]

    visitor.back()
    until(visitor, lambda: read_captions(visitor) == before)
    until(visitor, lambda: find(visitor, "#revisions li:first-child a").get_attribute("aria-current") == "page")
    visitor.forward()
    until(visitor, lambda: read_captions(visitor)[0] == "a <i>glass</i> blip")
    click(visitor, "#undo")
    until(visitor, lambda: visitor.current_url.endswith(dataset_id) and read_captions(visitor) == before)
    assert_no_complaints(visitor)


HOLD = """
const send = window.fetch;
window.held = [];
window.sent = 0;
window.fetch = async (...values) => {
  if (String(values[0]).endsWith("/revisions")) {
    window.sent += 1;
    await new Promise((go) => window.held.push(go));
  }
  return send(...values);
};
"""
RELEASE = "window.held.splice(0).forEach((go) => go())"


def test_what_is_typed_and_asked_while_a_revision_is_made_is_kept(visitor: Chrome, running_api: RunningApi) -> None:
    dataset_id = make_dataset(running_api)
    open_dataset(visitor, running_api, dataset_id)
    before = read_captions(visitor)
    visitor.execute_script(HOLD)
    areas = visitor.find_elements(By.CSS_SELECTOR, "#grid textarea")
    type_into(areas[0], "first")
    click(visitor, "#save")
    until(visitor, lambda: visitor.execute_script("return window.held.length") == 1)
    visitor.find_elements(By.CSS_SELECTOR, "#grid .leave")[-1].click()
    type_into(areas[1], "second")
    assert visitor.execute_script("return window.sent") == 1, "one after the other"
    visitor.execute_script(RELEASE)
    until(visitor, lambda: visitor.execute_script("return window.held.length") == 1)
    assert read_captions(visitor) == ["first", "second", *before[2:]]
    assert visitor.switch_to.active_element == visitor.find_elements(By.CSS_SELECTOR, "#grid textarea")[1]
    visitor.execute_script(RELEASE)
    until(visitor, lambda: read_captions(visitor) == ["first", "second", *before[2:-1]])
    assert not find(visitor, "#save").is_enabled()

    type_into(find(visitor, "#grid textarea"), "third")
    click(visitor, "#undo")
    until_shown(visitor, "dialog[open]", "Discard the unsaved captions?")
    click(visitor, "dialog[open] button")
    assert read_captions(visitor)[0] == "third"
    visitor.back()
    until_shown(visitor, "dialog[open]", "Discard the unsaved captions?")
    click(visitor, "dialog[open] .danger")
    until(visitor, lambda: read_captions(visitor) == ["first", *before[1:]])
    assert_no_complaints(visitor)


def test_an_image_is_seen_large_with_what_a_base_makes_of_it(visitor: Chrome, running_api: RunningApi) -> None:
    open_dataset(visitor, running_api, make_dataset(running_api))
    click(visitor, "#grid .open")
    until(visitor, lambda: find(visitor, "#large").is_displayed())
    parts = [text.split("\n") for text in read_texts(visitor, "#large-facts div")]
    facts = dict(parts)
    assert facts["Size"] == "192×64 px"
    assert facts["Trained at"] == "104×32 px"
    assert facts["Crop"] == "8 % is cut away"
    assert len(visitor.find_elements(By.CSS_SELECTOR, "#framed .cut")) == 2
    assert read_text(visitor, "#large-warnings") == "Has no caption: the trigger is used instead."
    find(visitor, "#close").send_keys(Keys.ARROW_RIGHT)
    assert read_text(visitor, "#large-name") == "blip-1.png"
    assert "none" in read_text(visitor, "#large-facts")
    find(visitor, "#close").send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert read_text(visitor, "#large-name") == "blip-0.png"
    find(visitor, "#close").send_keys(Keys.ESCAPE)
    assert not find(visitor, "#large").is_displayed()
    assert_no_complaints(visitor)


def test_it_is_deleted_after_a_question_unless_a_job_uses_it(visitor: Chrome, running_api: RunningApi) -> None:
    job, alone = ScriptedJob(running_api), make_dataset(running_api)
    for dataset_id in (job.dataset_id, alone):
        open_dataset(visitor, running_api, dataset_id)
        click(visitor, "#delete")
        assert "Delete blips?" in read_text(visitor, "dialog[open]")
        click(visitor, "dialog[open] .danger")
        if dataset_id == job.dataset_id:
            until_shown(visitor, "#page-error", "is used by")
    until(visitor, lambda: visitor.current_url == f"{running_api.url}/ui/datasets")
    with running_api.sessions() as session:
        assert session.get(Dataset, alone) is None
        assert session.get(Dataset, job.dataset_id) is not None


def multiply_images(api: RunningApi, dataset_id: str, number: int) -> None:
    """The dataset's four images over and over, by other names."""
    with api.sessions.begin() as session:
        row = session.get_one(Dataset, dataset_id)
        images = (row.manifest or {})["images"]
        row.manifest = {"images": [{**images[n % 4], "name": f"blip-{n:03}.png"} for n in range(number)]}


def test_five_hundred_images_are_usable(visitor: Chrome, running_api: RunningApi) -> None:
    dataset_id = make_dataset(running_api)
    multiply_images(running_api, dataset_id, 500)
    open_dataset(visitor, running_api, dataset_id)
    until(visitor, lambda: len(read_captions(visitor)) == 500)
    settle(visitor)
    lists = "return performance.getEntriesByType('resource').filter((one) => one.name.includes('/images?')).length"
    assert visitor.execute_script(lists) == 1, "the grid takes one request"
    lazy = "return [...document.querySelectorAll('#grid img')].every((image) => image.loading == 'lazy')"
    assert visitor.execute_script(lazy)
    loaded = "return [...document.querySelectorAll('#grid img')].filter((image) => image.complete).length"
    assert visitor.execute_script(loaded) < 250, "only those near the screen are loaded"
    last = visitor.find_elements(By.CSS_SELECTOR, "#grid textarea")[-1]
    type_into(last, "the last one")
    click(visitor, "#save")
    until_shown(visitor, "#toasts", "Saved as a new revision.")
    assert read_captions(visitor)[-1] == "the last one"


def test_without_scripts_its_images_are_paged(browser: Chrome, running_api: RunningApi) -> None:
    dataset_id = make_dataset(running_api)
    multiply_images(running_api, dataset_id, 120)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(running_api.login_link())
    click(browser, "#link button")
    until(browser, lambda: browser.current_url == f"{running_api.url}/ui")
    browser.get(f"{running_api.url}/ui/datasets/{dataset_id}")
    assert read_texts(browser, ".heading .actions") == [""], "nothing that does not work"
    pages = [read_texts(browser, ".gallery small")]
    while browser.find_elements(By.CSS_SELECTOR, "a[rel=next]"):
        click(browser, "a[rel=next]")
        pages.append(read_texts(browser, ".gallery small"))
    assert [len(names) for names in pages] == [50, 50, 20]
    assert [name.split(" ")[0] for names in pages for name in names] == [f"blip-{n:03}.png" for n in range(120)]
    click(browser, ".more a")
    assert read_texts(browser, ".gallery small") == pages[0]


def test_the_list_and_the_grid_load_thumbnails(visitor: Chrome, running_api: RunningApi, tmp_path: Path) -> None:
    for index in range(2):
        Image.effect_noise((1600, 900), 60 + index).save(tmp_path / f"{index}.png")
    with call(running_api) as client, checking(running_api):
        files = [("files", (path.name, path.read_bytes())) for path in sorted(tmp_path.iterdir())]
        dataset_id = client.post("/datasets", files=files).raise_for_status().json()["id"]
        until(visitor, lambda: client.get(f"/datasets/{dataset_id}").json()["status"] == "ready")
    sizes = (
        "return [...document.querySelectorAll('main li img')].map((image) => [image.naturalWidth, image.naturalHeight])"
    )
    visitor.get(f"{running_api.url}/ui/datasets")
    until(visitor, lambda: visitor.execute_script(sizes) == [[256, 144]])
    shape = "return document.querySelector('main li img').outerHTML"
    assert 'width="1600" height="900" loading="lazy"' in visitor.execute_script(shape)
    open_dataset(visitor, running_api, dataset_id)
    until(visitor, lambda: visitor.execute_script(sizes) == [[256, 144]] * 2)
    click(visitor, "#grid .open")
    until(visitor, lambda: visitor.execute_script("return document.querySelector('#framed img')?.naturalWidth") == 1600)
    assert_no_complaints(visitor)


def test_a_reader_sees_the_images_and_changes_nothing(browser: Chrome, running_api: RunningApi) -> None:
    dataset_id = make_dataset(running_api)
    with call(running_api) as client:
        secret = client.post("/keys", json={"name": "eyes", "scopes": ["read"]}).json()["secret"]
    browser.get(f"{running_api.url}/ui/login")
    find(browser, "input[name=api_key]").send_keys(secret)
    click(browser, "form[action='/ui/login'] button")
    until(browser, lambda: browser.current_url == f"{running_api.url}/ui")
    open_dataset(browser, running_api, dataset_id)
    settle(browser)
    assert not find(browser, "#captions").is_displayed()
    assert find(browser, "#grid textarea").get_attribute("readonly")
    for wanted in ("#delete", "#train", "#grid .leave"):
        assert browser.find_elements(By.CSS_SELECTOR, wanted) == [], wanted
    assert_no_complaints(browser)
