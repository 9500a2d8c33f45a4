"""The page for a new job, from images to a queued job, in a real browser."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from sqlalchemy import text

from core.db.tables import Dataset
from scripts.draw_blip import PICTURES
from tests.dashboard.page import (
    assert_no_complaints,
    click,
    find,
    log_in,
    read_text,
    read_texts,
    read_value,
    read_values,
    until,
    until_shown,
)
from tests.dashboard.studio import choose_files, drop_paths, resize, type_into, write_pictures
from tests.dashboard.test_scripts import CHOSEN, check_nothing_ran
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob, register_scripted_model
from tests.fixtures.validation import checking

LONG_NAME = "a_very_long_name_without_a_single_space_in_it_to_break_at_" * 2


@pytest.fixture
def checked(running_api: RunningApi) -> Iterator[RunningApi]:
    register_scripted_model(running_api)
    with checking(running_api):
        yield running_api


@pytest.fixture
def page(visitor: Chrome, checked: RunningApi) -> Chrome:
    visitor.get(f"{checked.url}/ui/new")
    until_shown(visitor, "#model-help", "64 px")
    return visitor


@pytest.fixture
def filled(page: Chrome, tmp_path: Path) -> Chrome:
    """With six checked images and a plan."""
    choose_files(page, write_pictures(tmp_path / "blips"))
    type_into(find(page, "#trigger"), "blip")
    until_planned(page)
    return page


def until_planned(page: Chrome) -> None:
    until(page, lambda: find(page, "#start").is_enabled())


def list_captions(page: Chrome) -> list[str]:
    return read_values(page, "#grid textarea")


def list_jobs(client: httpx.Client) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = client.get("/jobs").raise_for_status().json()["data"]
    return jobs


def start(page: Chrome, client: httpx.Client) -> dict[str, Any]:
    """The job that the button starts."""
    until_planned(page)
    click(page, "#start")
    until_shown(page, "#state", "queued")
    job = list_jobs(client)[0]
    assert page.current_url.endswith(f"/ui/jobs/{job['id']}")
    return job


def test_from_images_to_a_job(filled: Chrome, client: httpx.Client) -> None:
    assert len(list_captions(filled)) == 6
    assert int(read_text(filled, "#plan-steps").replace(",", "")) > 0
    assert "kB" in read_text(filled, "#plan-size")
    job = start(filled, client)
    assert job["spec"] == {"trigger": "blip", "preset": "auto"}
    assert client.get(f"/datasets/{job['dataset']}").json()["num_images"] == 6
    assert_no_complaints(filled)


def test_a_dropped_folder_is_read_with_all_below_it(page: Chrome, client: httpx.Client, tmp_path: Path) -> None:
    write_pictures(tmp_path / "my blips" / "deeper", 105)
    (tmp_path / "my blips" / "notes.pdf").write_bytes(b"%PDF")
    (tmp_path / "my blips" / ".DS_Store").write_bytes(b"of the Finder")
    drop_paths(page, find(page, "#drop"), tmp_path / "my blips")
    until(page, lambda: len(list_captions(page)) == len(PICTURES))  # equal ones are taken once
    [dataset] = client.get("/datasets").json()["data"]
    assert (dataset["name"], dataset["num_files"]) == ("my blips", 210)
    assert read_text(page, "#grid .name").startswith("deeper/blip-0.png")
    assert_no_complaints(page)


def test_what_no_dataset_can_be_made_of_is_refused_in_words(page: Chrome, client: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    drop_paths(page, find(page, "#drop"), tmp_path / "notes.pdf")
    until_shown(page, "#images-error", "no image and no archive")
    assert client.get("/datasets").json()["data"] == []


def test_the_example_set_is_one_click_away(visitor: Chrome, checked: RunningApi, client: httpx.Client) -> None:
    until(visitor, lambda: find(visitor, "#example").is_displayed())
    click(visitor, "#example")
    until(visitor, lambda: len(list_captions(visitor)) == 12)
    job = start(visitor, client)
    assert job["plan"]["trigger"] == "blip"
    assert_no_complaints(visitor)


def test_two_clicks_start_one_job(filled: Chrome, client: httpx.Client) -> None:
    filled.execute_script("const b = document.getElementById('start'); b.click(); b.click(); b.click();")
    until_shown(filled, "#state", "queued")
    assert len(list_jobs(client)) == 1


def test_a_lost_answer_does_not_make_a_second_job(filled: Chrome, client: httpx.Client) -> None:
    """The job is made, its answer is lost, and the page asks again with the same key."""
    filled.execute_script("""
        const real = window.fetch;
        window.lost = 0;
        window.fetch = async (path, options) => {
          const answer = await real(path, options);
          if (path === "/jobs" && options.method === "POST" && !window.lost++) throw new TypeError("lost");
          return answer;
        };
    """)
    start(filled, client)
    assert len(list_jobs(client)) == 1


def test_captions_become_revisions_and_go_back(filled: Chrome, client: httpx.Client) -> None:
    before = list_captions(filled)
    first = filled.find_element(By.CSS_SELECTOR, "#grid textarea")
    type_into(first, "a blip that was edited here")
    until_shown(filled, "#unsaved", "1 unsaved caption")
    click(filled, "#save")
    until(filled, lambda: find(filled, "#undo").is_enabled())
    edited = ["a blip that was edited here", *before[1:]]
    assert list_captions(filled) == edited

    type_into(find(filled, "#replace [name=find]"), "background")
    type_into(find(filled, "#replace [name=replace]"), "wall")
    click(filled, "#replace button")
    walls = [caption.replace("background", "wall") for caption in edited]
    until(filled, lambda: list_captions(filled) == walls)

    type_into(find(filled, "#affixes [name=prefix]"), "a photo of ")
    click(filled, "#affixes button")
    until(filled, lambda: list_captions(filled) == [f"a photo of {caption}" for caption in walls])

    for state in (walls, edited, before):
        click(filled, "#undo")
        until(filled, lambda state=state: list_captions(filled) == state)  # type: ignore[misc]
    assert not find(filled, "#undo").is_enabled()
    assert len(client.get("/datasets").json()["data"]) == 4
    assert_no_complaints(filled)


def test_an_image_is_left_out_and_unsaved_captions_go_along(filled: Chrome, client: httpx.Client) -> None:
    areas = filled.find_elements(By.CSS_SELECTOR, "#grid textarea")
    type_into(areas[1], "kept")
    filled.find_element(By.CSS_SELECTOR, "#grid .leave").click()
    until(filled, lambda: len(list_captions(filled)) == 5)
    assert list_captions(filled)[0] == "kept"
    until_shown(filled, ".toast", "blip-0.png is left out now.")
    click(filled, ".toast button")
    until(filled, lambda: len(list_captions(filled)) == 6)


def test_starting_saves_the_captions_first(filled: Chrome, client: httpx.Client) -> None:
    type_into(filled.find_element(By.CSS_SELECTOR, "#grid textarea"), "written last")
    job = start(filled, client)
    images = client.get(f"/datasets/{job['dataset']}/images").json()["data"]
    assert images[0]["caption"] == "written last"


def test_warnings_stand_on_the_pictures_that_they_name(page: Chrome, tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "blips")
    (tmp_path / "blips" / "blip-2.txt").write_text("")
    (tmp_path / "blips" / "broken.png").write_bytes(b"not a picture")
    choose_files(page, [*files, tmp_path / "blips" / "broken.png"])
    until(page, lambda: len(list_captions(page)) == 6)
    warned = page.find_elements(By.CSS_SELECTOR, "#grid .warned")
    assert [re.match(r"\S+", card.find_element(By.CSS_SELECTOR, ".name").text)[0] for card in warned] == ["blip-2.png"]  # type: ignore[index]
    assert "Has no caption" in warned[0].text
    click(page, "#notes summary")
    assert "broken.png" in read_text(page, "#notes")


def test_a_fault_stands_beside_its_field_and_the_plan_follows_what_is_typed(filled: Chrome) -> None:
    click(filled, "#often summary")
    rank = find(filled, "#o-adapter-rank")
    size = read_text(filled, "#plan-size")
    type_into(rank, "999")
    until_shown(filled, ".fault", "less than or equal to 256")
    assert rank.get_attribute("aria-invalid") == "true"
    assert not find(filled, "#start").is_enabled()
    type_into(rank, "64")
    until_planned(filled)
    assert read_text(filled, "#plan-size") != size
    assert filled.find_elements(By.CSS_SELECTOR, ".fault") == []
    assert rank.get_attribute("aria-invalid") is None
    type_into(find(filled, "#o-steps"), "123")
    until_shown(filled, "#plan-steps", "123")


def test_empty_fields_say_what_the_plan_has_decided(filled: Chrome) -> None:
    until_planned(filled)
    for details in ("#often", "#seldom"):
        click(filled, f"{details} summary")
    rank, schedule = find(filled, "#o-adapter-rank"), find(filled, "#o-schedule-name")
    assert rank.get_attribute("placeholder") == "default: 16"
    assert find(filled, "#o-loss-noise_offset").get_attribute("placeholder") == "default: 0"
    assert find(filled, "#o-max_duration_seconds").get_attribute("placeholder") == "default: off"
    assert read_text(filled, "#o-schedule-name option").startswith("default: c")
    assert find(filled, "#o-optimizer-betas").get_attribute("placeholder") == "default: 0.9, 0.999"
    type_into(rank, "8")
    until(filled, lambda: find(filled, "#o-adapter-alpha").get_attribute("placeholder") == "default: 8")
    assert rank.get_attribute("placeholder") == "default: 16", "not the typed one"
    assert schedule.get_attribute("value") == ""


def test_every_kind_of_field_reaches_the_spec(filled: Chrome, client: httpx.Client) -> None:
    for details in ("#often", "#seldom"):
        click(filled, f"{details} summary")
    for name, value in {
        "steps": "50", "optimizer-learning_rate": "2e-4", "samples-prompts": "a {trigger}\n\na blip in snow",
        "optimizer-betas": "0.8, 0.95", "validation-fraction": "0.25", "captions-template": "{trigger}, {caption}",
    }.items():  # fmt: skip
        filled.execute_script("arguments[0].scrollIntoView({block: 'center'})", find(filled, f"#o-{name}"))
        type_into(find(filled, f"#o-{name}"), value)
    for name, value in {
        "flip": "true", "adapter-type": "lora", "captions-max_token_length": "75", "gradient_checkpointing": "false",
    }.items():  # fmt: skip
        Select(find(filled, f"#o-{name}")).select_by_value(value)
    until_shown(filled, "#plan-steps", "50")
    assert start(filled, client)["spec"] == {
        "trigger": "blip",
        "preset": "auto",
        "steps": 50,
        "optimizer": {"learning_rate": 0.0002, "betas": [0.8, 0.95]},
        "samples": {"prompts": ["a {trigger}", "a blip in snow"]},
        "validation": {"fraction": 0.25},
        "captions": {"template": "{trigger}, {caption}", "max_token_length": 75},
        "flip": True,
        "adapter": {"type": "lora"},
        "gradient_checkpointing": False,
    }


def test_a_job_is_trained_again_with_changes(visitor: Chrome, checked: RunningApi, client: httpx.Client) -> None:
    spec = {"adapter": {"rank": 7}, "metadata": {"team": "art"}, "checkpoints": {"keep": 3}}
    job = ScriptedJob(checked, **spec)
    visitor.get(f"{checked.url}/ui/jobs/{job.id}")
    click(visitor, "#again")
    until_shown(visitor, "h1", "Train again with changes")
    until_planned(visitor)
    assert read_value(visitor, "#o-adapter-rank") == "7"
    assert read_value(visitor, "#o-checkpoints-keep") == "3"
    type_into(find(visitor, "#o-adapter-rank"), "5")
    type_into(find(visitor, "#name"), "encore")
    until_planned(visitor)
    click(visitor, "#start")
    until_shown(visitor, "h1", "encore")
    again = list_jobs(client)[0]
    assert again["dataset"] == job.dataset_id
    old = client.get(f"/jobs/{job.id}").json()["spec"]
    assert again["spec"] == {**old, "name": "encore", "adapter": {"rank": 5}, "preset": "auto"}
    assert_no_complaints(visitor)


def test_a_reload_loses_nothing(filled: Chrome, client: httpx.Client) -> None:
    click(filled, "#often summary")
    type_into(find(filled, "#o-steps"), "77")
    filled.refresh()
    until(filled, lambda: len(list_captions(filled)) == 6)
    assert read_value(filled, "#trigger") == "blip"
    until_shown(filled, "#plan-steps", "77")


def test_what_is_typed_before_the_images_are_chosen_stays_too(page: Chrome, tmp_path: Path) -> None:
    type_into(find(page, "#trigger"), "blip")
    choose_files(page, write_pictures(tmp_path / "blips"))
    until_planned(page)
    page.refresh()
    until(page, lambda: len(list_captions(page)) == 6)
    assert read_value(page, "#trigger") == "blip"


def test_an_upload_that_breaks_can_be_repeated(page: Chrome, tmp_path: Path) -> None:
    files = write_pictures(tmp_path / "blips")
    conditions = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.execute_cdp_cmd("Network.enable", {})
    page.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)
    try:
        choose_files(page, files)
        until_shown(page, "#images-error", "The service does not respond.")
        assert find(page, "#others").is_displayed()
    finally:
        page.execute_cdp_cmd("Network.emulateNetworkConditions", {**conditions, "offline": False})
    click(page, "#retry")
    until(page, lambda: len(list_captions(page)) == 6)
    assert not find(page, "#images-error").is_displayed()


def test_an_ended_session_loses_no_input(filled: Chrome, checked: RunningApi, client: httpx.Client) -> None:
    with checked.sessions.begin() as session:
        session.execute(text("DELETE FROM dashboard_tokens"))
    type_into(find(filled, "#name"), "kept")
    until_shown(filled, "dialog h2", "Your session has ended")
    page = filled.current_window_handle
    filled.switch_to.new_window("tab")
    log_in(filled, checked)
    filled.close()
    filled.switch_to.window(page)
    click(filled, "dialog button[value=yes]")
    until(filled, lambda: not filled.find_elements(By.CSS_SELECTOR, "dialog[open]"))
    job = start(filled, client)
    assert (job["spec"]["name"], job["spec"]["trigger"]) == ("kept", "blip")


def test_by_keyboard_alone(visitor: Chrome, checked: RunningApi, client: httpx.Client) -> None:
    """With a dataset that is there; every stop shows its focus."""
    ScriptedJob(checked)
    visitor.get(f"{checked.url}/ui/new")
    until(visitor, lambda: find(visitor, "#existing").is_displayed())
    tab_to(visitor, "datasets").send_keys(Keys.ARROW_DOWN)
    until(visitor, lambda: len(list_captions(visitor)) == 4)
    tab_to(visitor, "trigger").send_keys("blip")
    tab_to(visitor, "often", "summary").send_keys(Keys.ENTER)
    tab_to(visitor, "o-steps").send_keys("42")
    until_shown(visitor, "#plan-steps", "42")
    tab_to(visitor, "start").send_keys(Keys.ENTER)
    until_shown(visitor, "#state", "queued")
    assert list_jobs(client)[0]["spec"]["steps"] == 42


def test_by_keyboard_from_dropped_images_to_a_job(page: Chrome, client: httpx.Client, tmp_path: Path) -> None:
    write_pictures(tmp_path / "blips", 3)
    drop_paths(page, find(page, "#drop"), tmp_path / "blips")
    until(page, lambda: len(list_captions(page)) == 3)
    tab_to(page, "grid", "textarea").send_keys(Keys.CONTROL, "a")
    page.switch_to.active_element.send_keys("typed by hand")
    tab_to(page, "trigger").send_keys("blip")
    until_planned(page)
    tab_to(page, "start").send_keys(Keys.ENTER)
    until_shown(page, "#state", "queued")
    job = list_jobs(client)[0]
    images = client.get(f"/datasets/{job['dataset']}/images").json()["data"]
    assert images[0]["caption"] == "typed by hand", "what was not saved goes along"
    assert job["spec"]["trigger"] == "blip"


def tab_to(browser: Chrome, wanted: str, inside: str = "") -> WebElement:
    for _ in range(120):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        focused = browser.switch_to.active_element
        ring = browser.execute_script(
            "const e = arguments[0]; const s = getComputedStyle(e.type === 'file' ? e.parentElement : e);"
            "return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1",
            focused,
        )
        if focused.tag_name == "body":
            continue  # from the last one to the browser's own
        assert ring, f"{focused.tag_name}#{focused.get_attribute('id')} does not show its focus"
        owners = focused.find_elements(By.XPATH, "ancestor::*") if inside else [focused]
        if inside in ("", focused.tag_name) and any(owner.get_attribute("id") == wanted for owner in owners):
            return focused
    raise AssertionError(f"{wanted} was not reached")


@pytest.mark.parametrize("width", [375, 768, 2560])
def test_no_width_makes_it_scroll_sideways(visitor: Chrome, checked: RunningApi, width: int) -> None:
    job = ScriptedJob(checked, name=LONG_NAME, trigger=LONG_NAME)
    rewrite_dataset(checked, job.dataset_id, [LONG_NAME * 2] * 4)
    resize(visitor, width)
    visitor.get(f"{checked.url}/ui/new?from={job.id}")
    until(visitor, lambda: len(list_captions(visitor)) == 4)
    for details in ("often", "seldom"):
        visitor.execute_script("document.getElementById(arguments[0]).open = true", details)
    type_into(find(visitor, "#o-adapter-rank"), "999")
    until_shown(visitor, ".fault", "256")
    assert visitor.execute_script("return document.documentElement.scrollWidth") <= width
    find(visitor, "#grid textarea").send_keys("x")
    resize(visitor, 1200)


def test_names_and_captions_full_of_markup_stay_text(visitor: Chrome, checked: RunningApi) -> None:
    job = ScriptedJob(checked, name=CHOSEN[0], trigger=CHOSEN[0])
    shown = rewrite_dataset(checked, job.dataset_id, CHOSEN[:4])
    visitor.get(f"{checked.url}/ui/new?from={job.id}")
    until(visitor, lambda: list_captions(visitor) == shown)
    assert read_value(visitor, "#trigger") == CHOSEN[0]
    names = read_texts(visitor, "#grid .name")
    assert all(name.startswith(text) for name, text in zip(names, shown, strict=True))
    click(visitor, "#notes summary")
    assert read_text(visitor, "#notes li") == f"{CHOSEN[0]}: {CHOSEN[0]}"
    click(visitor, "#others")
    until_shown(visitor, "#datasets option", CHOSEN[0])
    visitor.get(f"{checked.url}/ui")
    until_shown(visitor, "#current a", CHOSEN[0])
    assert visitor.find_elements(By.CSS_SELECTOR, "#grid script, #current img, #current script") == []
    check_nothing_ran(visitor)


def rewrite_dataset(api: RunningApi, dataset_id: str, texts: list[str]) -> list[str]:
    """Its images are named and captioned so."""
    with api.sessions.begin() as session:
        row = session.get_one(Dataset, dataset_id)
        images = [
            {**image, "caption": text, "name": f"{text}{index}.png"}
            for index, (image, text) in enumerate(zip((row.manifest or {})["images"], texts, strict=True))
        ]
        row.name, row.manifest = texts[0], {"images": images}
        row.report = {
            "num_files": 1, "num_images": len(images),
            "left_out": [{"file": texts[0], "reason": texts[0]}],
            "warnings": [{"code": "blurry", "message": texts[0], "files": [images[0]["name"]]}],
        }  # fmt: skip
    return list(texts)


def test_who_may_only_look_is_not_offered_it(browser: Chrome, running_api: RunningApi, client: httpx.Client) -> None:
    key = client.post("/keys", json={"name": "guest", "scopes": ["read"]}).raise_for_status().json()["secret"]
    browser.get(f"{running_api.url}/ui/login")
    type_into(find(browser, "#api_key"), key)
    click(browser, "main button")
    until_shown(browser, "#begin", "can view but not start jobs")
    menu = read_texts(browser, "nav a")
    assert menu == ["Home", "Jobs", "Datasets", "Adapters", "Playground", "Service", "API"]
    browser.get(f"{running_api.url}/ui/new")
    until_shown(browser, "main", "needs a key with the scope jobs")


def test_rejected_images_say_why_and_others_can_be_chosen(page: Chrome, tmp_path: Path) -> None:
    """It begins and ends as a PNG does: only the worker that opens it finds out."""
    whole = write_pictures(tmp_path / "good", 3)
    content = whole[0].read_bytes()
    (tmp_path / "broken.png").write_bytes(content[:60] + bytes(len(content) - 120) + content[-60:])
    choose_files(page, [tmp_path / "broken.png"])
    until_shown(page, "#dataset-state", "rejected")
    assert read_text(page, "#images-error")
    assert "broken.png" in find(page, "#notes").get_attribute("textContent") + read_text(page, "#images-error")
    assert not find(page, "#start").is_enabled()
    click(page, "#others")
    choose_files(page, whole)
    until(page, lambda: len(list_captions(page)) == 3)
    assert not find(page, "#images-error").is_displayed()
