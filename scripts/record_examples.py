"""Records the OpenAPI document's examples of jobs and models from a running service and a real training.

    python -m scripts.record_examples [--url http://127.0.0.1:8000] [--key-file .atelier/admin.key] [--job job_…]

Trains on examples/blip with the example request (some minutes), or uses an earlier job of that kind, and writes
app/jobs/recorded.json. Run it again when the API's view of a job has changed.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import httpx

from app.jobs.examples import RECORDED, REQUEST

IMAGES = Path(__file__).resolve().parent.parent / "examples" / "blip"
DEFAULT_URL = "http://127.0.0.1:8000"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=DEFAULT_URL)
    parser.add_argument("--key-file", type=Path, default=Path(".atelier/admin.key"))
    parser.add_argument("--job")
    asked = parser.parse_args()
    headers = {"Authorization": f"Bearer {asked.key_file.read_text().strip()}"}
    with httpx.Client(base_url=asked.url, headers=headers, timeout=120) as client:
        job_id = asked.job or train(client)
        RECORDED.write_text(json.dumps(record(client, job_id), indent=1, ensure_ascii=False) + "\n")


def train(client: httpx.Client) -> str:
    """The job's id, once it has succeeded."""
    files = [("files", (path.name, path.read_bytes())) for path in sorted(IMAGES.iterdir()) if path.is_file()]
    dataset = ask(client, "POST", "/datasets", files=files, data={"name": "blip"})["id"]
    while ask(client, "GET", f"/datasets/{dataset}")["status"] == "validating":
        time.sleep(1)
    request = {**REQUEST, "dataset": dataset}
    request.pop("webhook")
    job = ask(client, "POST", "/jobs", json=request)["id"]
    while (status := ask(client, "GET", f"/jobs/{job}", params={"wait": 60})["status"]) not in ("succeeded", "failed"):
        print(status)
    return str(job)


def record(client: httpx.Client, job_id: str) -> dict[str, Any]:
    job = ask(client, "GET", f"/jobs/{job_id}")
    assert job["status"] == "succeeded", job
    url = f"/jobs/{job_id}"
    body = {"model": job["model"], "dataset": job["dataset"], **job["spec"]}
    sample = ask(client, "GET", f"{url}/samples")["data"][-1]
    return {
        "job": job,
        "model": ask(client, "GET", f"/models/{job['model']}"),
        "dry_run": ask(client, "POST", "/jobs", params={"dry_run": True}, json=body),
        "event": ask(client, "GET", f"{url}/events")["data"][1],
        "metric": ask(client, "GET", f"{url}/metrics", params={"after": 9, "limit": 1})["data"][0],
        "checkpoint": ask(client, "GET", f"{url}/checkpoints")["data"][-1],
        "sample": {**sample, "images": sample["images"][:2]},
    }


def ask(client: httpx.Client, method: str, path: str, **sent: Any) -> Any:
    answer = client.request(method, path, **sent)
    answer.raise_for_status()
    return answer.json()


if __name__ == "__main__":
    main()
