"""Base models, workers, usage, keys and the audit log, in a real browser."""

from datetime import UTC, datetime

import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import url_to_be
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from app.dashboard.navigation import SERVICE_ENTRIES
from core.db import models
from core.db.delivery_claims import Try, claim_deliveries, record_failed
from core.db.models import CheckClaim
from core.db.tables import Model, Worker
from core.db.workers import record_worker
from core.domain.registration import ModelSource
from core.domain.states import Phase
from tests.dashboard.page import (
    assert_no_complaints,
    click,
    find,
    read_attribute,
    read_attributes,
    read_text,
    read_texts,
    read_value,
    until,
    until_shown,
)
from tests.dashboard.studio import type_into
from tests.fixtures.filled import open_client
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob

MARKUP = "<img src=x onerror=document.title='run'>"


def open_page(browser: Chrome, api: RunningApi, name: str) -> None:
    browser.get(f"{api.url}/ui/{name}")
    browser.execute_script("window.sameLoad = true")


def log_in_with(browser: Chrome, api: RunningApi, *scopes: str) -> None:
    with open_client(api) as client:
        secret = client.post("/keys", json={"name": "other", "scopes": scopes}).json()["secret"]
    link = httpx.post(f"{api.url}/ui/tokens", headers={"Authorization": f"Bearer {secret}"}).json()["url"]
    browser.get(link)
    WebDriverWait(browser, 60).until(url_to_be(f"{api.url}/ui"))


def tabs(browser: Chrome) -> list[str]:
    return read_texts(browser, ".tabs a")


def see_worker(api: RunningApi, job_id: str) -> None:
    with api.sessions.begin() as session:
        record_worker(
            session, worker_id="studio/cuda/0", device="cuda:0", device_name="RTX 4090", memory_bytes=25_757_220_864,
            job_id=job_id, warm_models=["scripted"],
        )  # fmt: skip


def reject(api: RunningApi, model_id: str, hub_id: str, reason: str) -> None:
    source = ModelSource(hub_id=hub_id, description=MARKUP)
    with api.sessions.begin() as session:
        assert models.reject_check(session, CheckClaim(model_id, source), reason)


@pytest.fixture
def _no_models(running_api: RunningApi) -> None:
    with running_api.sessions.begin() as session:
        for row in session.query(Model).filter(Model.id.in_(("mine", "scripted"))):
            session.delete(row)


def test_a_key_sees_the_pages_that_its_scopes_allow(browser: Chrome, running_api: RunningApi) -> None:
    log_in_with(browser, running_api, "read")
    open_page(browser, running_api, "models")
    assert tabs(browser) == ["Base models", "Workers", "Usage"]
    assert not browser.find_elements(By.ID, "register")
    for entry in SERVICE_ENTRIES:
        browser.get(f"{running_api.url}{entry.path}")
        refused = "This needs a key with the scope" in read_text(browser, "main")
        assert refused == (entry.needs != "read"), entry.section
    log_in_with(browser, running_api, "read", "jobs")
    open_page(browser, running_api, "workers")
    assert "Webhooks" in tabs(browser)
    assert "Keys" not in tabs(browser)


@pytest.mark.usefixtures("_no_models")
def test_a_base_is_registered_checked_rejected_and_deleted(visitor: Chrome, running_api: RunningApi) -> None:
    open_page(visitor, running_api, "models")
    until(visitor, lambda: find(visitor, "#register").is_displayed())
    if find(visitor, "#register").get_attribute("open") is None:
        click(visitor, "#register summary")
    type_into(find(visitor, "#place"), "nope.safetensors")
    click(visitor, "#submit")
    until_shown(visitor, "#form-error", "has no nope.safetensors")
    assert find(visitor, "#place").get_attribute("aria-invalid") == "true"
    assert visitor.switch_to.active_element == find(visitor, "#place")
    click(visitor, "input[value=hub_id]")
    type_into(find(visitor, "#place"), "some/base")
    type_into(find(visitor, "#id"), "mine")
    type_into(find(visitor, "#description"), MARKUP)
    click(visitor, "#submit")
    until_shown(visitor, "tbody tr", "checking")
    reject(running_api, "mine", "some/base", "The repository has no U-Net.")
    until_shown(visitor, "tbody tr", "The repository has no U-Net.")
    assert visitor.execute_script("return window.sameLoad")
    click(visitor, "tbody a")
    until_shown(visitor, "#content .bad", "The repository has no U-Net.")
    click(visitor, "#delete")
    until_shown(visitor, "dialog", "Delete mine?")
    click(visitor, "dialog .danger")
    until(visitor, lambda: visitor.current_url == f"{running_api.url}/ui/models")
    until(visitor, lambda: read_text(visitor, "#list") == "" or "mine" not in read_text(visitor, "#list"))
    errors = [entry for entry in visitor.get_log("browser") if "422" not in entry["message"]]
    assert errors == []  # the refused path is one that the browser reports


def test_a_base_says_what_is_known_of_it(visitor: Chrome, running_api: RunningApi) -> None:
    open_page(visitor, running_api, "models/tiny")
    until_shown(visitor, "#content", "What a training needs")
    text = read_text(visitor, "#content")
    assert "GPU: 77 MB to 157 MB on a GPU" in text
    assert "64 px" in text
    assert "multiples of 8 px" in text
    assert "13 M parameters" in text
    assert "a large {trigger} on a blue background" in text
    assert "0.17 s per step" in text
    assert_no_complaints(visitor)
    visitor.get(f"{running_api.url}/ui/models/none-such")
    until_shown(visitor, "#error", "There is no model 'none-such'")


def test_workers_come_work_and_go(visitor: Chrome, running_api: RunningApi) -> None:
    open_page(visitor, running_api, "workers")
    until_shown(visitor, "#empty", "No worker is active")
    job, waiting = ScriptedJob(running_api, name=MARKUP), ScriptedJob(running_api, name="owl")
    until_shown(visitor, "#waiting li", "place 2 in the queue")
    job.start()
    job.enter(Phase.TRAINING)
    job.train_to(30)
    see_worker(running_api, job.id)
    until_shown(visitor, "#list .plan", MARKUP)
    until_shown(visitor, "#list .plan", "30/100")
    assert "26 GB" in read_text(visitor, "#list")
    assert "owl" in read_text(visitor, "#waiting")
    assert MARKUP not in read_text(visitor, "#waiting")
    job.train_to(45, first=31)
    until_shown(visitor, "#list .plan", "45/100")
    with running_api.sessions.begin() as session:
        session.delete(session.get_one(Worker, "studio/cuda/0"))
    until_shown(visitor, "#empty", "No worker is active")
    assert visitor.execute_script("return window.sameLoad")
    assert waiting.id in find(visitor, "#waiting a").get_attribute("href")
    assert_no_complaints(visitor)


def test_a_new_key_is_shown_once_and_lets_another_device_in(visitor: Chrome, running_api: RunningApi) -> None:
    open_page(visitor, running_api, "keys")
    until_shown(visitor, "tbody tr", "opened this session")
    click(visitor, "#create summary")
    type_into(find(visitor, "#name"), MARKUP)
    click(visitor, "input[value=jobs]")
    Select(find(visitor, "#expires")).select_by_visible_text("in 30 days")
    visitor.execute_script("const b = document.querySelector('#form .primary'); b.click(); b.click();")
    until(visitor, lambda: find(visitor, "#made").is_displayed())
    secret = read_value(visitor, "#secret input")
    answer = httpx.get(f"{running_api.url}/jobs", headers={"Authorization": f"Bearer {secret}"})
    assert answer.status_code == 200
    assert httpx.post(f"{running_api.url}/jobs", headers={"Authorization": f"Bearer {secret}"}).status_code == 403
    until_shown(visitor, "tbody th", MARKUP)
    click(visitor, "#make-link")
    until(visitor, lambda: find(visitor, "#link input").is_displayed())
    link = read_value(visitor, "#link input")
    with httpx.Client() as device:
        base, _, token = link.partition("?token=")
        opened = device.post(base, data={"token": token}, headers={"Sec-Fetch-Site": "same-origin"})
        assert opened.status_code == 303
        assert device.get(f"{running_api.url}/ui/jobs").status_code == 200
        assert device.get(f"{running_api.url}/ui/keys").status_code == 403
    click(visitor, "#done")
    assert secret not in visitor.page_source
    assert (
        visitor.execute_script("return [...document.querySelectorAll('input')].map(f => f.value).join()").count(secret)
        == 0
    )
    visitor.refresh()
    until_shown(visitor, "tbody th", MARKUP)
    assert secret not in visitor.page_source
    find(visitor, f'button[aria-label="Revoke the key {MARKUP}"]').click()
    click(visitor, "dialog .danger")
    until_shown(visitor, "tbody tr", "revoked")
    assert httpx.get(f"{running_api.url}/jobs", headers={"Authorization": f"Bearer {secret}"}).status_code == 401
    assert_no_complaints(visitor)


def test_a_key_without_scopes_is_refused_beside_its_field(visitor: Chrome, running_api: RunningApi) -> None:
    open_page(visitor, running_api, "keys")
    click(visitor, "#create summary")
    type_into(find(visitor, "#name"), "idle")
    for box in visitor.find_elements(By.CSS_SELECTOR, "[name=scopes]:checked"):
        box.click()
    click(visitor, "#form .primary")
    until_shown(visitor, "#form-error", "scopes:")
    assert read_value(visitor, "#name") == "idle"
    assert not find(visitor, "#made").is_displayed()


def test_usage_is_shown_as_bars_and_the_operator_sets_its_limits(visitor: Chrome, running_api: RunningApi) -> None:
    open_page(visitor, running_api, "usage")
    until_shown(visitor, "#bars", "0, unlimited")
    click(visitor, "#change summary")
    type_into(find(visitor, "#limit-queued_jobs"), "1")
    type_into(find(visitor, "#limit-rank"), "100000")
    click(visitor, "#form .primary")
    until_shown(visitor, "#form-error", "rank")
    type_into(find(visitor, "#limit-rank"), "64")
    click(visitor, "#form .primary")
    until_shown(visitor, "#bars", "0 of 1")
    until_shown(visitor, "#caps", "64")
    ScriptedJob(running_api)
    until_shown(visitor, "#bars", "1 of 1")
    until_shown(visitor, "#bars", "Used up")
    click(visitor, "#restore")
    until_shown(visitor, "dialog", "Restore")
    click(visitor, "dialog .primary")
    until(visitor, lambda: "Used up" not in read_text(visitor, "#bars"))
    assert visitor.execute_script("return window.sameLoad")


def test_the_audit_log_is_filtered_and_grows_by_pages(visitor: Chrome, running_api: RunningApi) -> None:
    with open_client(running_api) as client:
        for number in range(53):
            client.post("/keys", json={"name": f"key {number}"}).raise_for_status()
    open_page(visitor, running_api, "audit")
    Select(find(visitor, "#action")).select_by_visible_text("Key created")
    heads = "return [...document.querySelectorAll('tbody th')].map((head) => head.textContent)"
    until(visitor, lambda: visitor.execute_script(heads) == ["Key created"] * 50)
    assert set(read_attributes(visitor, "tbody th span", "title")) == {"key.created"}
    until_shown(visitor, "tbody td", "key 52")
    click(visitor, "#more")
    until_shown(visitor, "tbody td", "key 0")
    visitor.refresh()
    until(visitor, lambda: len(visitor.find_elements(By.CSS_SELECTOR, "tbody tr")) == 50)
    assert Select(find(visitor, "#action")).first_selected_option.text == "Key created"
    assert_no_complaints(visitor)


def test_deliveries_are_followed_looked_into_and_repeated(visitor: Chrome, running_api: RunningApi) -> None:
    open_page(visitor, running_api, "webhooks")
    until_shown(visitor, "#empty", "No deliveries")
    job = ScriptedJob(running_api, name=MARKUP, webhook={"url": "https://studio.example.com/hook"})
    until_shown(visitor, "tbody tr", "job.queued")
    until_shown(visitor, "tbody a", MARKUP)
    with running_api.sessions.begin() as session:
        [claim] = claim_deliveries(session, lease_seconds=60, limit=10, per_host=10)
        record_failed(session, claim, Try(datetime.now(UTC), 0.2, status_code=503, excerpt=MARKUP), delay_seconds=None)
    until_shown(visitor, "tbody tr", "failed")
    until_shown(visitor, "tbody tr", "503 after 0.2 s")
    click(visitor, f"#log-{claim.event_id}")
    until_shown(visitor, "dialog pre", MARKUP)
    click(visitor, "dialog button[value=test]")
    until_shown(visitor, "tbody tr", "webhook.test")
    click(visitor, f"#again-{claim.event_id}")
    until(visitor, lambda: "failed" not in read_text(visitor, "tbody"))
    Select(find(visitor, "#status")).select_by_visible_text("failed")
    until(visitor, lambda: find(visitor, "#empty").is_displayed())
    Select(find(visitor, "#status")).select_by_visible_text("pending")
    until_shown(visitor, "tbody tr", "job.queued")
    assert job.id in (read_attribute(visitor, "tbody a", "href"))
    assert visitor.execute_script("return window.sameLoad")
    assert_no_complaints(visitor)


def test_the_signing_secret_is_shown_on_request_and_replaced(visitor: Chrome, running_api: RunningApi) -> None:
    open_page(visitor, running_api, "webhooks")
    until(visitor, lambda: find(visitor, "#reveal").is_displayed())
    assert "whsec_" not in visitor.page_source
    click(visitor, "#reveal")
    until(visitor, lambda: find(visitor, "#secret input").is_displayed())
    before = read_value(visitor, "#secret input")
    with open_client(running_api) as client:
        assert client.get("/webhooks/secret").json()["secret"] == before
        click(visitor, "#rotate")
        click(visitor, "dialog .danger")
        until(visitor, lambda: read_value(visitor, "#secret input") != before)
        until_shown(visitor, "#previous", "The previous secret signs as well, until")
        assert client.get("/webhooks/secret").json()["secret"] == read_value(visitor, "#secret input")
