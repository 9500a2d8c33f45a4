"""From pictures without captions to a link that is revoked, over HTTP alone: caption, edit, train, look in between,
take an earlier step, draw with a stack, merge, check, publish, share."""

import hashlib
import io
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load

from tests.acceptance.conftest import Atelier
from tests.fixtures.captioners import write_blip
from tests.fixtures.hub import TOKEN
from tests.fixtures.service import ROOT

QUICK: dict[str, Any] = {
    "model": "tiny",
    "trigger": "blip",
    "precision": "auto",
    "batch_size": 1,
    "adapter": {"rank": 4, "targets": "attention"},
    "evaluation": "off",
    "validation": {"fraction": 0},
    "loss": {"prior_preservation": {"num_images": 0}},
}
PROMPT = "a large {trigger} on a blue background"
NUM_PICTURES, NUM_STEPS = 4, 12


def ask(atelier: Atelier, method: str, path: str, status: int, **options: Any) -> dict[str, Any]:
    answer = atelier.http.request(method, path, **options)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def wait_for(
    atelier: Atelier, path: str, is_done: Callable[[dict[str, Any]], bool], *, seconds: int = 0
) -> dict[str, Any]:
    """``seconds``: of long polling in each request, where there is that."""
    params = {"wait": seconds} if seconds else None
    while not is_done(row := atelier.http.get(path, params=params).raise_for_status().json()):
        time.sleep(0.1)
    return dict(row)


def wait_for_status(atelier: Atelier, path: str, status: str, *pending: str, seconds: int = 0) -> dict[str, Any]:
    row = wait_for(atelier, path, lambda row: row["status"] not in pending, seconds=seconds)
    assert row["status"] == status, row
    return row


def upload_without_captions(atelier: Atelier) -> str:
    paths = sorted((ROOT / "examples" / "blip").glob("*.png"))[:NUM_PICTURES]
    parts = [("files", (path.name, path.read_bytes())) for path in paths]
    dataset = str(ask(atelier, "POST", "/datasets", 202, files=parts, data={"name": "blip"})["id"])
    assert atelier.wait_for_dataset(dataset)["status"] == "ready"
    return dataset


def list_captions(atelier: Atelier, dataset: str) -> dict[str, str | None]:
    rows = atelier.http.get(f"/datasets/{dataset}/images").raise_for_status().json()["data"]
    return {row["name"]: row["caption"] for row in rows}


def caption(atelier: Atelier, dataset: str) -> str:
    """By a captioner that is registered first. The id of the revision."""
    write_blip(atelier.home / "models" / "captioners" / "words")
    ask(atelier, "POST", "/captioners", 202, json={"id": "words", "path": "captioners/words"})
    wait_for_status(atelier, "/captioners/words", "ready", "checking")
    made = ask(atelier, "POST", f"/datasets/{dataset}/captions", 202, json={"captioner": "words"})
    path = f"/captionings/{made['id']}"
    ended = wait_for_status(atelier, path, "succeeded", "queued", "running", seconds=20)
    assert ended["num_done"] == NUM_PICTURES
    return str(ended["revision"])


def edit(atelier: Atelier, dataset: str) -> str:
    first = next(iter(list_captions(atelier, dataset)))
    edits = {"captions": {first: "standing"}, "prefix": "a blip, "}
    return str(ask(atelier, "POST", f"/datasets/{dataset}/revisions", 201, json=edits)["id"])


def start_training(atelier: Atelier, dataset: str, **changes: Any) -> str:
    return str(ask(atelier, "POST", "/jobs", 201, json={**QUICK, "dataset": dataset, **changes})["id"])


def sample_while_it_trains(atelier: Atelier, job: str) -> None:
    wait_for_status(atelier, f"/jobs/{job}", "running", "queued")
    request = ask(atelier, "POST", f"/jobs/{job}/samples", 202, json={"prompts": ["a small {trigger}"], "seed": 3})
    path = f"/jobs/{job}/samples/requests/{request['id']}"
    drawn = wait_for_status(atelier, path, "drawn", "waiting", seconds=20)
    assert 1 <= drawn["step"] <= NUM_STEPS and drawn["prompts"] == ["a small blip"]
    open_image(atelier, drawn["images"][0])


def open_image(atelier: Atelier, image: dict[str, Any]) -> Image.Image:
    content = atelier.http.get(image["url"]).raise_for_status().content
    assert hashlib.sha256(content).hexdigest() == image["sha256"]
    return Image.open(io.BytesIO(content)).convert("RGB")


def promote_an_earlier_step(atelier: Atelier, job: str) -> str:
    """The id of the job's adapter, which has the step's bytes then."""
    steps = atelier.http.get(f"/jobs/{job}/steps").raise_for_status().json()["data"]
    assert [row["step"] for row in steps] == [4, 8, NUM_STEPS]
    before = atelier.http.get(f"/jobs/{job}/adapter").raise_for_status().headers["etag"]
    step = next(row for row in steps if not row["is_promoted"] and row["step"] < NUM_STEPS)
    ask(atelier, "POST", f"/jobs/{job}/promote", 200, json={"step": step["step"]}, params={"wait": 60})
    after = atelier.http.get(f"/jobs/{job}/adapter").raise_for_status().headers["etag"]
    assert before != after == f'"{step["files"]["kohya"]["sha256"]}"'
    return str(ask(atelier, "GET", f"/jobs/{job}", 200)["result"]["adapter_id"])


def generate(atelier: Atelier, adapters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    body = {
        "model": "tiny", "prompts": ["a large blip on blue"], "adapters": adapters, "num_steps": 4, "num_images": 2,
        "seed": 5,
    }  # fmt: skip
    made = ask(atelier, "POST", "/generations", 201, json=body)
    ended = wait_for_status(atelier, f"/generations/{made['id']}", "succeeded", "queued", "running", seconds=20)
    assert ended["num_drawn"] == 2
    return list(ended["images"])


@pytest.mark.slow
def test_all_that_is_done_with_an_adapter(atelier: Atelier) -> None:
    dataset = upload_without_captions(atelier)
    assert set(list_captions(atelier, dataset).values()) == {None}
    captioned = caption(atelier, dataset)
    assert all(list_captions(atelier, captioned).values())
    edited = edit(atelier, captioned)
    captions = [str(text) for text in list_captions(atelier, edited).values()]
    assert captions[0] == "a blip, standing" and all(text.startswith("a blip, ") for text in captions)

    samples = {"prompts": [PROMPT], "every": 4, "num_steps": 2, "guidance_scale": 1}
    job = start_training(atelier, edited, steps=NUM_STEPS, samples=samples)
    sample_while_it_trains(atelier, job)
    assert atelier.wait_for_job(job)["status"] == "succeeded"
    first = promote_an_earlier_step(atelier, job)

    # Between the steps of a second training, with what that one has learnt so far; and once more when it is over.
    second = start_training(atelier, edited, steps=5000, samples={**samples, "every": 10}, seed=9)
    wait_for(atelier, f"/jobs/{second}/steps", lambda page: bool(page["data"]))
    stack = [{"id": first, "weight": 0.8}, {"job": second, "step": 10, "weight": 0.5}]
    between = generate(atelier, stack)
    assert ask(atelier, "GET", f"/jobs/{second}", 200)["status"] == "running"
    file = atelier.http.get(f"/jobs/{second}/adapter", params={"step": 10}).raise_for_status().content
    ask(atelier, "POST", f"/jobs/{second}/cancel", 202)
    assert atelier.wait_for_job(second)["status"] == "canceled"
    assert [image["sha256"] for image in generate(atelier, stack)] == [image["sha256"] for image in between]

    parts = {"file": ("second.safetensors", file)}
    imported = str(ask(atelier, "POST", "/adapters", 202, files=parts, data={"model": "tiny"})["id"])
    wait_for_status(atelier, f"/adapters/{imported}", "ready", "checking")
    pair = [{"id": first, "weight": 0.8}, {"id": imported, "weight": 0.5}]
    merged = str(ask(atelier, "POST", "/adapters/merge", 202, json={"adapters": pair, "name": "Both"})["id"])
    wait_for_status(atelier, f"/adapters/{merged}", "ready", "checking")
    compare_images(atelier, between, generate(atelier, [{"id": merged}]))

    body = {"adapters": [first, imported, merged]}
    check = ask(atelier, "POST", "/adapters/check", 200, json=body, params={"wait": 60})
    assert check["status"] == "done" and check["result"]["fits"], check
    relations = {tuple(pair["adapters"]): pair["relation"] for pair in check["result"]["pairs"]}
    assert relations[first, merged] == "reinforce"

    publish(atelier, merged)
    share_and_revoke(atelier, merged)


def compare_images(atelier: Atelier, stacked: list[dict[str, Any]], merged: list[dict[str, Any]]) -> None:
    for one, other in zip(stacked, merged, strict=True):
        difference = np.asarray(open_image(atelier, one), np.int16) - np.asarray(open_image(atelier, other), np.int16)
        assert np.abs(difference).mean() < 1


def publish(atelier: Atelier, adapter: str) -> None:
    body = {"repo_id": "studio/both", "token": TOKEN, "license": "apache-2.0"}
    made = ask(atelier, "POST", f"/adapters/{adapter}/publish", 202, json=body)
    path = f"/adapters/{adapter}/publications/{made['id']}"
    ended = wait_for_status(atelier, path, "published", "publishing", seconds=20)
    assert ended["url"] == f"{atelier.hub.url}/studio/both"
    files = atelier.hub.repositories["studio/both"].files
    assert load(files["pytorch_lora_weights.safetensors"]) and b"license: apache-2.0" in files["README.md"]


def share_and_revoke(atelier: Atelier, adapter: str) -> None:
    link = ask(atelier, "POST", f"/adapters/{adapter}/links", 201, json={})
    with httpx.Client(timeout=60) as stranger:
        page = stranger.get(link["url"])
        assert page.status_code == 200 and "Both" in page.text
        download = stranger.get(f"{link['url']}/download").raise_for_status().content
        assert load(download)
        assert stranger.get(f"{atelier.http.base_url}/adapters/{adapter}").status_code == 401
        assert atelier.http.delete(link["urls"]["self"]).status_code == 204
        assert stranger.get(link["url"]).status_code == 404
        assert stranger.get(f"{link['url']}/download").status_code == 404
