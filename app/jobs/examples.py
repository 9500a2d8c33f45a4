"""Examples for the OpenAPI document."""

from typing import Any

JOB_ID = "job_01j9z3k8m4x7v2q5w6e8r9t0ya"
DATASET_ID = "ds_01j9z3h2b6n4c8d0f2g4h6j8ka"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
TIME = "2026-01-31T12:00:00Z"

REQUEST: dict[str, Any] = {
    "model": "tiny",
    "dataset": DATASET_ID,
    "trigger": "blip",
    "steps": 300,
    "webhook": {"url": "https://example.com/hooks/atelier", "events": ["job.succeeded", "job.failed", "job.canceled"]},
}
SPEC: dict[str, Any] = {"trigger": "blip", "steps": 300}
ESTIMATE: dict[str, Any] = {
    "steps": 300,
    "seconds": 71.0,
    "peak_memory_bytes": 912_000_000,
    "adapter_bytes": 1_310_720,
    "basis": "the model's calibration on cpu x2",
}
PLAN: dict[str, Any] = {
    "name": "blip",
    "trigger": "blip",
    "model": "tiny",
    "rank": 8,
    "alpha": 8.0,
    "steps": 300,
    "batch_size": 8,
    "resolution": 64,
    "learning_rate": 0.001,
    "num_images": 12,
}
DRY_RUN: dict[str, Any] = {"object": "plan", "plan": PLAN, "estimate": ESTIMATE}

_URL = f"/jobs/{JOB_ID}"
_FILE: dict[str, Any] = {"sha256": SHA256, "size": 1_313_096}

JOB: dict[str, Any] = {
    "id": JOB_ID,
    "object": "job",
    "status": "succeeded",
    "phase": None,
    "created_at": TIME,
    "started_at": TIME,
    "finished_at": "2026-01-31T12:01:14Z",
    "model": "tiny",
    "dataset": DATASET_ID,
    "spec": SPEC,
    "plan": PLAN,
    "progress": {
        "step": 300,
        "num_steps": 300,
        "percent": 100.0,
        "seconds_per_step": 0.19,
        "eta_seconds": None,
        "loss": 0.0713,
    },
    "estimate": ESTIMATE,
    "attempt": 1,
    "result": {
        "adapter": {
            "kohya": {"url": f"{_URL}/adapter?format=kohya", **_FILE},
            "diffusers": {"url": f"{_URL}/adapter?format=diffusers", **_FILE},
        },
        "adapter_id": "ad_01j9z3k8m4x7v2q5w6e8r9t0yc",
        "samples": {"step": 300, "url": f"{_URL}/samples", "grid_url": f"{_URL}/samples/300/grid.png"},
        "metrics": {
            "loss": 0.0713,
            "step": 270,
            "num_steps": 300,
            "stopped_early": False,
            "validation_loss": 0.0698,
            "base_validation_loss": 0.1127,
            "retention": 0.97,
            "num_parameters": 655_360,
            "seconds_per_sample": 0.024,
            "peak_memory_bytes": 1_234_567_890,
        },
        "proofs": {
            "kohya": {
                "format": "kohya",
                "family": "sd1",
                "tools": [
                    {
                        "tool": tool,
                        "required": True,
                        "loads": True,
                        "verdict": "same",
                        "num_keys": 576,
                        "num_resolved": 576,
                    }
                    for tool in ("diffusers", "sd-scripts", "a1111", "comfyui")
                ],
                "images_match": True,
                "max_pixel_difference": 0,
            }
        },
        "note": "Training ran all 300 steps; the adapter is that of step 270, the latest that the "
        "held-out images do not tell to be worse than the best.",
        "warnings": [],
    },
    "error": None,
    "metadata": {},
    "urls": {"self": _URL, "cancel": f"{_URL}/cancel", "events": f"{_URL}/events", "adapter": f"{_URL}/adapter"},
}

EVENT: dict[str, Any] = {
    "id": "evt_01j9z3k8m4x7v2q5w6e8r9t0yb",
    "object": "event",
    "job": JOB_ID,
    "seq": 2,
    "type": "job.running",
    "attempt": 1,
    "data": {"attempt": 1},
    "created_at": TIME,
}
METRIC: dict[str, Any] = {
    "step": 10,
    "attempt": 1,
    "loss": 0.0931,
    "validation_loss": None,
    "learning_rate": 0.0004,
    "seconds_per_step": 0.19,
}
CHECKPOINT: dict[str, Any] = {
    "step": 60,
    "attempt": 1,
    "loss": 0.0802,
    "url": f"{_URL}/checkpoints/60/download",
    **_FILE,
    "created_at": TIME,
}
SAMPLE: dict[str, Any] = {
    "step": 100,
    "attempt": 1,
    "images": [{"url": f"{_URL}/samples/100/0.png", **_FILE, "prompt": "blip on a blue background", "seed": 0}],
    "grid": {"url": f"{_URL}/samples/100/grid.png", **_FILE},
    "created_at": TIME,
}
EVENT_STREAM = (
    'event: job.running\nid: 2\ndata: {"id": "evt_01j9z3k8m4x7v2q5w6e8r9t0yb", "type": "job.running", "seq": 2}\n\n'
    'event: progress\ndata: {"id": "job_01j9z3k8m4x7v2q5w6e8r9t0ya", "status": "running"}\n\n'
)
