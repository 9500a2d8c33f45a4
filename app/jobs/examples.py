"""Examples for the OpenAPI document: a request, and a recorded response (scripts/record_examples.py)."""

import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("recorded.json")
_ANSWERS: dict[str, Any] = json.loads(RECORDED.read_text())

JOB: dict[str, Any] = _ANSWERS["job"]
MODEL: dict[str, Any] = _ANSWERS["model"]
DRY_RUN: dict[str, Any] = _ANSWERS["dry_run"]
EVENT: dict[str, Any] = _ANSWERS["event"]
METRIC: dict[str, Any] = _ANSWERS["metric"]
CHECKPOINT: dict[str, Any] = _ANSWERS["checkpoint"]
SAMPLE: dict[str, Any] = _ANSWERS["sample"]

JOB_ID: str = JOB["id"]
DATASET_ID: str = JOB["dataset"]
TIME: str = JOB["created_at"]

REQUEST: dict[str, Any] = {
    "model": "tiny",
    "dataset": DATASET_ID,
    "trigger": "blip",
    "preset": "quick",
    "webhook": {"url": "https://example.com/hooks/atelier", "events": ["job.succeeded", "job.failed", "job.canceled"]},
}
_PROGRESS: dict[str, Any] = {
    **{name: JOB[name] for name in ("id", "object", "created_at", "started_at", "finished_at", "model", "dataset")},
    **{"status": "running", "phase": "training", "attempt": 1, "error": None, "finished_at": None},
    "queue_position": None,
    "progress": {**JOB["progress"], "step": 12, "percent": 12.0, "eta_seconds": 61.3},
}
EVENT_STREAM = "\n\n".join(
    [
        f"event: {EVENT['type']}\nid: {EVENT['seq']}\ndata: {json.dumps(EVENT)}",
        f"event: progress\ndata: {json.dumps(_PROGRESS)}",
        "",
    ]
)
