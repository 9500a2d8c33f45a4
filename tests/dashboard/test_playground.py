"""The playground: from an adapter to pictures, in a real browser."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from core.db import generation_claims
from core.db.models import get_model, read_card, upsert_model
from core.domain.artifacts import Artifact, generation_key
from tests.dashboard.page import (
    assert_no_complaints,
    click,
    find,
    read_text,
    read_texts,
    read_value,
    read_values,
    until,
    until_shown,
)
from tests.dashboard.studio import drop_paths, resize, type_into
from tests.dashboard.test_scripts import CHOSEN, check_nothing_ran
from tests.fixtures.pictures import png
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import MODEL, ScriptedJob, register_scripted_model


@pytest.fixture
def adapter(running_api: RunningApi, client: httpx.Client) -> str:
    """The id of a scripted job's adapter, whose trigger is ``blip``."""
    job = ScriptedJob(running_api)
    job.start()
    job.keep_adapter(50)
    job.train_to_the_end()
    return str(client.get("/adapters").json()["data"][0]["id"])


def list_generations(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/generations").raise_for_status().json()["data"]
    return found


def count_pictures(page: Chrome) -> int:
    """Those that have loaded."""
    script = "return [...document.querySelectorAll('.drawn img')].filter((one) => one.naturalWidth).length"
    return int(page.execute_script(script))


def open_playground(page: Chrome, api: RunningApi, query: str = "") -> None:
    page.get(f"{api.url}/ui/playground{query}")
    until_shown(page, "#model-help", "64 px")
    until(page, lambda: find(page, "#draw").is_enabled())


def open_details(page: Chrome) -> None:
    click(page, "#play summary")


@pytest.mark.usefixtures("drawer")
def test_an_adapter_becomes_pictures_beside_those_of_the_base(
    visitor: Chrome, running_api: RunningApi, client: httpx.Client, adapter: str
) -> None:
    open_playground(visitor, running_api, f"?adapter={adapter}:0.8")
    until_shown(visitor, "#stack", "blip")
    until(visitor, lambda: read_value(visitor, "#prompt") == "blip")
    find(visitor, "#prompt").send_keys(Keys.HOME, "a large")
    click(visitor, "#stack .chip")  # at the cursor
    assert read_value(visitor, "#prompt") == "a large blip blip"
    type_into(find(visitor, "#count"), "2")
    click(visitor, "#compare")
    assert read_text(visitor, "#draw") == "Draw 4 images"
    click(visitor, "#draw")
    until(visitor, lambda: count_pictures(visitor) == 4)
    until_shown(visitor, ".drawing .state", "succeeded")
    assert read_texts(visitor, ".drawing h4") == ["Without", "With"]
    left, right = (one.rect for one in visitor.find_elements(By.CSS_SELECTOR, ".drawing .set"))
    assert left["y"] == right["y"] and left["x"] + left["width"] < right["x"], "side by side on a wide screen"
    resize(visitor, 375)
    above, below = (one.rect for one in visitor.find_elements(By.CSS_SELECTOR, ".drawing .set"))
    assert above["x"] == below["x"] and above["y"] < below["y"]
    resize(visitor, 1200)
    with_it, without = list_generations(client)
    assert [(one["id"], one["weight"]) for one in with_it["adapters"]] == [(adapter, 0.8)]
    assert without["adapters"] == []
    assert with_it["seed"] == without["seed"] == int(read_value(visitor, "#seed"))
    click(visitor, ".drawing .set:last-child button")
    until(visitor, lambda: len(visitor.find_elements(By.CSS_SELECTOR, ".viewer img")) == 2)
    find(visitor, ".viewer").send_keys(Keys.ARROW_RIGHT)
    until_shown(visitor, ".viewer p", f"seed {with_it['seed'] + 1}")
    find(visitor, ".viewer").send_keys(Keys.ESCAPE)
    until(visitor, lambda: not visitor.find_elements(By.CSS_SELECTOR, ".viewer"))
    assert_no_complaints(visitor)


@pytest.mark.usefixtures("drawer")
def test_a_prompt_names_the_trigger_of_the_stack(
    visitor: Chrome, running_api: RunningApi, client: httpx.Client, adapter: str
) -> None:
    with running_api.sessions.begin() as session:
        card = read_card(get_model(session, MODEL.id)).model_copy(
            update={"example_prompts": ("a photo of {trigger} on a beach",)}
        )
        upsert_model(session, card, location="/nowhere")
    open_playground(visitor, running_api)
    assert find(visitor, "#prompt").get_attribute("placeholder") == "a photo of … on a beach"
    open_playground(visitor, running_api, f"?adapter={adapter}")
    until(visitor, lambda: find(visitor, "#prompt").get_attribute("placeholder") == "a photo of blip on a beach")
    until(visitor, lambda: read_value(visitor, "#prompt") == "blip")  # the page has filled the form
    type_into(find(visitor, "#prompt"), "one {trigger}, drawn")
    click(visitor, "#draw")
    until_shown(visitor, ".drawing h3", "one blip, drawn")
    assert list_generations(client)[0]["prompts"] == ["one blip, drawn"]
    assert read_value(visitor, "#prompt") == "one {trigger}, drawn"
    register_scripted_model(running_api)
    assert_no_complaints(visitor)


@pytest.mark.usefixtures("drawer")
def test_seeds_are_new_each_time_or_kept(visitor: Chrome, running_api: RunningApi, client: httpx.Client) -> None:
    open_playground(visitor, running_api)
    type_into(find(visitor, "#prompt"), "one\ntwo")
    for num_drawn in (1, 2):
        click(visitor, "#draw")
        until(visitor, lambda wanted=num_drawn: len(list_generations(client)) == wanted)
        until(visitor, lambda: find(visitor, "#draw").is_enabled())
    first, second = (one["seed"] for one in list_generations(client))
    assert first != second
    click(visitor, "#keep")
    click(visitor, "#draw")
    until(visitor, lambda: len(list_generations(client)) == 3)
    newest = list_generations(client)[0]
    assert (newest["seed"], newest["prompts"]) == (first, ["one", "two"])


@pytest.mark.usefixtures("drawer")
def test_a_sheet_varies_two_settings(
    visitor: Chrome, running_api: RunningApi, client: httpx.Client, adapter: str
) -> None:
    open_playground(visitor, running_api, f"?adapter={adapter}")
    until(visitor, lambda: read_value(visitor, "#prompt") == "blip")
    open_details(visitor)
    Select(find(visitor, "#x-field")).select_by_value("weight")
    type_into(find(visitor, "#x-values"), "0.4, 0.8, 1.2")
    Select(find(visitor, "#y-field")).select_by_value("seed")
    type_into(find(visitor, "#y-values"), "1, 2")
    assert read_text(visitor, "#draw") == "Draw 6 images"
    click(visitor, "#draw")
    until(visitor, lambda: count_pictures(visitor) == 6)
    [generation] = list_generations(client)
    assert len(generation["grid"]["columns"]) == 3
    labels = read_texts(visitor, ".drawn small")
    assert labels[1] == f"{generation['grid']['columns'][1]}, {generation['grid']['rows'][0]}"
    cover = {"cover": {"generation": generation["id"], "index": 1}}
    assert client.patch(f"/adapters/{adapter}", json=cover).raise_for_status().json()["cover"]
    type_into(find(visitor, "#x-values"), "0.4, 99")
    click(visitor, "#draw")
    until_shown(visitor, "#error", "99")
    assert find(visitor, "#x-values").get_attribute("aria-invalid") == "true"


def test_pictures_appear_one_by_one_and_it_can_be_stopped(
    visitor: Chrome, running_api: RunningApi, client: httpx.Client, adapter: str
) -> None:
    open_playground(visitor, running_api, f"?adapter={adapter}")
    until(visitor, lambda: read_value(visitor, "#prompt") == "blip")
    type_into(find(visitor, "#count"), "3")
    click(visitor, "#draw")
    until_shown(visitor, ".drawing .state", "queued")
    assert len(visitor.find_elements(By.CSS_SELECTOR, ".empty-picture")) == 3
    with running_api.sessions() as session, session.begin():
        claim = generation_claims.claim_generation(session, lease_seconds=60)
        assert claim is not None
        stored = running_api.storage.put(generation_key(claim.id, claim.attempt, "0.png"), png(0))
        image = Artifact(key=stored.key, sha256=stored.sha256, size=stored.size)
        generation_claims.add_image(session, claim, "0", image)
    until(visitor, lambda: count_pictures(visitor) == 1)
    until_shown(visitor, ".drawing .state", "running")
    [stop] = [one for one in visitor.find_elements(By.CSS_SELECTOR, ".drawing button") if one.text == "Stop"]
    stop.click()
    until_shown(visitor, ".drawing .state", "canceled")
    assert visitor.find_elements(By.CSS_SELECTOR, ".empty-picture") == []
    assert count_pictures(visitor) == 1


@pytest.mark.usefixtures("drawer")
def test_a_failure_says_why_and_history_is_used_and_deleted(
    visitor: Chrome, running_api: RunningApi, client: httpx.Client
) -> None:
    body = {"model": "scripted", "prompts": ["a cat"], "seed": 7, "num_steps": 9, "width": 128, "height": 64}
    client.post("/generations", json=body).raise_for_status()
    open_playground(visitor, running_api)
    until_shown(visitor, ".drawing h3", "a cat")
    until(visitor, lambda: count_pictures(visitor) == 1)
    click(visitor, ".drawing .row button")
    until(visitor, lambda: read_value(visitor, "#prompt") == "a cat")
    shown = {name: read_value(visitor, f"#{name}") for name in ("seed", "steps", "width", "height")}
    assert shown == {"seed": "7", "steps": "9", "width": "128", "height": "64"}
    type_into(find(visitor, "#prompt"), "fail")
    click(visitor, "#draw")
    until_shown(visitor, ".drawing .message", "the adapter does not fit")
    click(visitor, ".drawing:first-child .danger")
    until(visitor, lambda: find(visitor, "dialog .danger").is_displayed())
    click(visitor, "dialog .danger")
    until(visitor, lambda: [one["prompts"] for one in list_generations(client)] == [["a cat"]])
    until(visitor, lambda: len(visitor.find_elements(By.CSS_SELECTOR, ".drawing")) == 1)
    assert_no_complaints(visitor)


@pytest.mark.parametrize("chunk", ["tEXt", "zTXt", "iTXt"])
def test_a_dropped_picture_gives_its_settings_back(
    visitor: Chrome, running_api: RunningApi, client: httpx.Client, adapter: str, tmp_path: Path, chunk: str
) -> None:
    job = client.get(f"/adapters/{adapter}").json()["job"]
    text = (
        "a fox, in Köln\nNegative prompt: blur, noise\nSteps: 12, Sampler: DDIM, CFG scale: 6.5, Seed: 42, "
        f"Size: 96x64, Model: scripted, Adapters: blip ({adapter}) x 0.7 + blip ({job}@50) x -0.2"
    )
    info = PngInfo()
    if chunk == "iTXt":
        info.add_itxt("parameters", text, zip=True)
    else:
        info.add_text("parameters", text, zip=chunk == "zTXt")
    Image.new("RGB", (8, 8)).save(tmp_path / "fox.png", pnginfo=info)
    open_playground(visitor, running_api)
    drop_paths(visitor, find(visitor, "#drawn-title"), tmp_path / "fox.png")
    until(visitor, lambda: read_value(visitor, "#prompt") == "a fox, in Köln")
    until_shown(visitor, "#stack", "blip")
    names = ("negative", "seed", "steps", "guidance", "width", "height")
    shown = [read_value(visitor, f"#{name}") for name in names]
    assert shown == ["blur, noise", "42", "12", "6.5", "96", "64"]
    until(visitor, lambda: len(visitor.find_elements(By.CSS_SELECTOR, "#stack option:checked")) == 2)
    weights = read_values(visitor, "#stack [type=number]")
    steps = read_texts(visitor, "#stack option:checked")
    assert (weights, steps) == (["0.7", "-0.2"], ["as it is", "step 50"])
    Image.new("RGB", (8, 8)).save(tmp_path / "bare.png")
    find(visitor, "#picture").send_keys(str(tmp_path / "bare.png"))
    until_shown(visitor, "#error", "not a PNG that says how it was made")


@pytest.mark.usefixtures("checker")
def test_a_stack_is_searched_weighed_and_merged(
    visitor: Chrome, running_api: RunningApi, client: httpx.Client, adapter: str
) -> None:
    other = ScriptedJob(running_api, name="ink", trigger="ink")
    other.run_to_the_end()
    open_playground(visitor, running_api, f"?job={other.id}&step=100")
    until_shown(visitor, "#stack", "ink")
    assert not find(visitor, "#merge").is_displayed()
    visitor.get(f"{running_api.url}/ui/playground?adapter={adapter}")
    until_shown(visitor, "#stack", "blip")
    click(visitor, "#add")
    until(visitor, lambda: find(visitor, ".picker input").is_displayed())
    type_into(find(visitor, ".picker input"), "ink")
    until(visitor, lambda: read_text(visitor, ".picks button").startswith("ink"))
    click(visitor, ".picks button")
    until(visitor, lambda: len(visitor.find_elements(By.CSS_SELECTOR, "#stack li")) == 2)
    type_into(find(visitor, "#stack li:last-child [type=number]"), "0.5")
    click(visitor, "#merge")
    type_into(find(visitor, "#merge-name"), "Blip in ink")
    click(visitor, "dialog .primary")
    until_shown(visitor, "#toasts", "Blip in ink is being made.")
    made = client.get("/adapters", params={"text": "Blip in ink"}).json()["data"][0]
    assert [source["weight"] for source in made["merge"]["sources"]] == [1.0, 0.5]
    assert_no_complaints(visitor)


@pytest.mark.parametrize("text", CHOSEN)
def test_prompts_and_names_stay_text(visitor: Chrome, running_api: RunningApi, client: httpx.Client, text: str) -> None:
    job = ScriptedJob(running_api, name=text, trigger=text)
    job.run_to_the_end()
    adapter = client.get("/adapters").json()["data"][0]
    body = {"model": "scripted", "prompts": [text], "adapters": [{"id": adapter["id"]}]}
    client.post("/generations", json=body).raise_for_status()
    open_playground(visitor, running_api, f"?adapter={adapter['id']}")
    until_shown(visitor, "#stack", text)
    until_shown(visitor, ".drawing h3", text)
    check_nothing_ran(visitor)


def test_readers_see_what_was_drawn_and_no_form(
    browser: Chrome, running_api: RunningApi, client: httpx.Client, adapter: str
) -> None:
    body = {"model": "scripted", "prompts": ["a cat"]}
    client.post("/generations", json=body).raise_for_status()
    key = client.post("/keys", json={"name": "reader", "scopes": ["read"]}).raise_for_status().json()["secret"]
    browser.get(f"{running_api.url}/ui/login")
    browser.find_element(By.NAME, "api_key").send_keys(key, Keys.ENTER)
    until(browser, lambda: browser.current_url.endswith("/ui"))
    browser.get(f"{running_api.url}/ui/playground")
    until_shown(browser, ".drawing h3", "a cat")
    assert not find(browser, "#play").is_displayed()
    assert browser.find_elements(By.CSS_SELECTOR, ".drawing button") == []
    assert_no_complaints(browser)
