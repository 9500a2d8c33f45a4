"""The main job over HTTP alone: pictures in, an adapter out that loads elsewhere, in both formats."""

import hashlib
import io
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from core.model_folders import BUNDLED
from tests.acceptance.conftest import Atelier
from tests.fixtures.service import ROOT

PROMPT = "a large blip on a blue background"
FEW_CLASS_PICTURES = {"prior_preservation": {"num_images": 8, "batch_size": 4}}


def upload_blip(atelier: Atelier) -> str:
    parts = [("files", (path.name, path.read_bytes())) for path in sorted((ROOT / "examples" / "blip").glob("*.*"))]
    answer = atelier.http.post("/datasets", files=parts, data={"name": "blip"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def draw(adapter: Path | None) -> np.ndarray:
    pipeline = StableDiffusionPipeline.from_pretrained(BUNDLED / "tiny", dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    if adapter is not None:
        pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
    image = pipeline(
        PROMPT, num_inference_steps=10, height=64, width=64, generator=torch.Generator().manual_seed(1)
    ).images[0]
    return np.asarray(image, np.int16)


def test_images_become_an_adapter_that_loads_in_diffusers(atelier: Atelier, tmp_path: Path) -> None:
    dataset_id = upload_blip(atelier)
    dataset = atelier.wait_for_dataset(dataset_id)
    assert dataset["status"] == "ready", dataset

    body = {
        "model": "tiny",
        "dataset": dataset_id,
        "trigger": "blip",
        "steps": 8,
        "samples": {"every": 4, "num_steps": 10},
        "validation": {"every": 4},
        "loss": FEW_CLASS_PICTURES,
    }
    plan = atelier.http.post("/jobs", params={"dry_run": True}, json=body).raise_for_status().json()
    answer = atelier.http.post("/jobs", json=body)
    assert answer.status_code == 201, answer.text
    job = atelier.wait_for_job(answer.json()["id"])
    assert job["status"] == "succeeded", job["error"]
    assert job["progress"]["step"] == 8  # type: ignore[index]
    events = atelier.http.get(f"/jobs/{job['id']}/events", params={"limit": 100}).raise_for_status().json()["data"]
    phases = [event["data"]["phase"] for event in events if event["type"] == "job.phase"]
    assert phases[:5] == ["caching", *["sampling", "training"] * 2]
    assert {*phases[5:-2]} == {"sampling"} and phases[-2:] == ["scoring", "exporting"]

    files = {}
    for name in ("kohya", "diffusers"):
        got = atelier.http.get(f"/jobs/{job['id']}/adapter", params={"format": name}).raise_for_status()
        assert got.headers["etag"].strip('"') == hashlib.sha256(got.content).hexdigest()
        files[name] = tmp_path / f"{name}.safetensors"
        files[name].write_bytes(got.content)
    said = plan["estimate"]["adapter_bytes"]
    assert abs(files["kohya"].stat().st_size - said) < 0.1 * said, "the dry run states the size"

    base, kohya, diffusers = draw(None), draw(files["kohya"]), draw(files["diffusers"])
    assert np.abs(kohya - diffusers).max() <= 1
    assert np.abs(kohya - base).max() > 8

    samples = atelier.http.get(f"/jobs/{job['id']}/samples").raise_for_status().json()["data"]
    result = job["result"]
    assert isinstance(result, dict)
    taken = result["metrics"]["step"]
    assert [row["step"] for row in samples] == sorted({0, 4, 8, taken})
    assert result["samples"]["step"] == taken and f"step {taken}" in result["note"].replace("last step, ", "step ")
    assert result["metrics"]["retention"] > 0.5
    assert all(tool["loads"] for proof in result["proofs"].values() for tool in proof["tools"] if tool["required"])
    measured = [tool["measured"] for proof in result["proofs"].values() for tool in proof["tools"] if tool["measured"]]
    assert len(measured) == 2 and all(row["num_same"] == row["num_layers"] for row in measured)
    grid = atelier.http.get(f"/jobs/{job['id']}/samples/8/grid.png").raise_for_status()
    with Image.open(io.BytesIO(grid.content)) as picture:
        assert picture.width > 2 * 64
    metrics = atelier.http.get(f"/jobs/{job['id']}/metrics").raise_for_status().json()["data"]
    assert [row["step"] for row in metrics] == list(range(1, 9))
    assert sum(row["validation_loss"] is not None for row in metrics) == 2
    events = [row["type"] for row in atelier.http.get(f"/jobs/{job['id']}/events").raise_for_status().json()["data"]]
    assert events[0] == "job.queued" and events[-1] == "job.succeeded"


def test_a_job_is_canceled_while_it_trains(atelier: Atelier) -> None:
    dataset_id = upload_blip(atelier)
    atelier.wait_for_dataset(dataset_id)
    body = {
        "model": "tiny",
        "dataset": dataset_id,
        "trigger": "blip",
        "steps": 5000,
        "samples": {"prompts": []},
        "loss": FEW_CLASS_PICTURES,
    }
    job_id = atelier.http.post("/jobs", json=body).raise_for_status().json()["id"]
    while atelier.http.get(f"/jobs/{job_id}").json()["phase"] != "training":
        time.sleep(0.5)
    assert atelier.http.post(f"/jobs/{job_id}/cancel").status_code == 202
    assert atelier.wait_for_job(job_id)["status"] == "canceled"
    assert atelier.http.get(f"/jobs/{job_id}/adapter").status_code == 409
