"""The client of Atelier's HTTP contract. Synchronous; one object per thread.

with AtelierClient("http://127.0.0.1:8000", api_key) as atelier:
    dataset = atelier.wait_for_dataset(atelier.upload_dataset(Path("images")).id)
    job = atelier.create_job({"model": "tiny", "dataset": dataset.id, "trigger": "blip"})
    for update in atelier.watch(job.id): ...
    atelier.download_adapter(job.id, Path("blip.safetensors"))
"""

import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from client.downloads import save
from client.errors import ClientError, DatasetUnusable, WaitTimeout, is_passing
from client.models import AdapterFormat, Dataset, Item, Job, JobEvent, Metric, Model, Page, Plan, SampleSet
from client.transport import Transport
from client.uploads import LazyFile, Selection
from client.watching import Update, watch_job

Result = TypeVar("Result")

POLL_SECONDS = 0.5
UPLOAD_TIMEOUT = httpx.Timeout(60.0, connect=10.0, read=600.0)
"""The answer to an upload comes after the service has stored the whole body."""


class AtelierClient:
    def __init__(self, url: str, api_key: str | None = None, *, transport: httpx.BaseTransport | None = None) -> None:
        """Raises InputError for an address that is none. Nothing is sent before the first call."""
        self._transport = Transport(url, api_key, transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.http.close()

    # --- datasets ---------------------------------------------------------------------------------------

    def upload_dataset(
        self, selection: Selection, *, name: str | None = None, on_bytes: Callable[[int], None] | None = None
    ) -> Dataset:
        """Streams the files in one multipart request; ``on_bytes`` hears how many were just read."""
        files = [
            ("files", (upload.name, LazyFile(upload.path, on_bytes), "application/octet-stream"))
            for upload in selection.uploads
        ]
        fields = {"name": name} if name else {}
        return self._transport.ask("POST", "/datasets", Dataset, data=fields, files=files, timeout=UPLOAD_TIMEOUT)

    def get_dataset(self, dataset_id: str) -> Dataset:
        return self._transport.get(f"/datasets/{dataset_id}", Dataset)

    def wait_for_dataset(self, dataset_id: str, *, timeout_seconds: float = 3600) -> Dataset:
        """Returns it ``ready``. Raises DatasetUnusable with its report, or WaitTimeout."""
        deadline = time.monotonic() + timeout_seconds
        while (dataset := self.get_dataset(dataset_id)).status == "validating":
            if time.monotonic() > deadline:
                raise WaitTimeout(f"Dataset {dataset_id} is still being checked after {timeout_seconds:.0f} s.")
            time.sleep(POLL_SECONDS)
        if dataset.status != "ready":
            raise DatasetUnusable(_explain_dataset(dataset), dataset)
        return dataset

    # --- models -----------------------------------------------------------------------------------------

    def list_models(self) -> Iterator[Model]:
        return self._list("/models", Page[Model])

    # --- jobs -------------------------------------------------------------------------------------------

    def create_job(self, body: Mapping[str, Any]) -> Job:
        """``body`` is ``{model, dataset, …TrainingSpec}``. Safe to repeat: a key makes one job of several tries."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        return _retry(lambda: self._transport.ask("POST", "/jobs", Job, json=dict(body), headers=headers))

    def plan_job(self, body: Mapping[str, Any]) -> Plan:
        """What the job would be and take; nothing is queued."""
        return self._transport.ask("POST", "/jobs", Plan, json=dict(body), params={"dry_run": "true"})

    def list_jobs(self, *, status: str | None = None, model: str | None = None) -> Iterator[Job]:
        """Newest first; pages are fetched as they are needed."""
        return self._list("/jobs", Page[Job], {"status": status, "model": model})

    def get_job(self, job_id: str) -> Job:
        return self._transport.get(f"/jobs/{job_id}", Job)

    def cancel_job(self, job_id: str) -> Job:
        return self._transport.ask("POST", f"/jobs/{job_id}/cancel", Job)

    def pause_job(self, job_id: str) -> Job:
        return self._transport.ask("POST", f"/jobs/{job_id}/pause", Job)

    def resume_job(self, job_id: str) -> Job:
        return self._transport.ask("POST", f"/jobs/{job_id}/resume", Job)

    def watch(self, job_id: str, *, after: str | None = None) -> Generator[Update]:
        """Every event once and in order, and the job's progress between them, until the job has ended."""
        return watch_job(self._transport, job_id, after)

    def list_events(self, job_id: str) -> Iterator[JobEvent]:
        return self._list(f"/jobs/{job_id}/events", Page[JobEvent])

    def list_metrics(self, job_id: str) -> Iterator[Metric]:
        return self._list(f"/jobs/{job_id}/metrics", Page[Metric])

    def list_samples(self, job_id: str) -> Iterator[SampleSet]:
        return self._list(f"/jobs/{job_id}/samples", Page[SampleSet])

    # --- files ------------------------------------------------------------------------------------------

    def download_adapter(self, job_id: str, target: Path, adapter_format: AdapterFormat = "kohya") -> str:
        """Writes the .safetensors whole or not at all; returns its sha256."""
        return self._download(f"/jobs/{job_id}/adapter?format={adapter_format}", target)

    def download_grid(self, job_id: str, step: int, target: Path) -> str:
        return self._download(f"/jobs/{job_id}/samples/{step}/grid.png", target)

    def _download(self, path: str, target: Path) -> str:
        def fetch() -> str:
            with self._transport.stream(path) as response:
                return save(response, target)

        return _retry(fetch)

    def _list(
        self, path: str, kind: type[Page[Item]], filters: Mapping[str, str | None] | None = None
    ) -> Iterator[Item]:
        params = {key: value for key, value in (filters or {}).items() if value is not None}
        while True:
            page = self._transport.get(path, kind, params=params)
            yield from page.data
            if not page.has_more or page.last_id is None:
                return
            params["after"] = page.last_id


def _retry(call: Callable[[], Result]) -> Result:
    """Repeats what can be repeated without harm, when the connection or a part of the service failed."""
    for pause_seconds in (0.5, 1.0, 2.0):
        try:
            return call()
        except ClientError as error:
            if not is_passing(error):
                raise
            time.sleep(pause_seconds)
    return call()


def _explain_dataset(dataset: Dataset) -> str:
    if dataset.status == "open":
        return f"Dataset {dataset.id} is still open: finalize it first."
    return dataset.error.detail if dataset.error else f"Dataset {dataset.id} is {dataset.status}."
