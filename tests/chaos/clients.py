"""Clients that do not give up: they repeat over outages with the same Idempotency-Key, and remember the
answers. Each instance belongs to one thread; the ledger to all."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.specs import body_of

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
PAUSE_SECONDS = 0.3
DRIP_SECONDS = 0.08


@dataclass
class StatusRequest:
    """``kind``: cancel, pause or resume. ``answer``: the job's status in the 202, or None for a refusal (409)."""

    kind: str
    sent_at: float
    answer: str | None


@dataclass
class PostedJob:
    """What one client knows of one job. ``job_ids``: of the 201, and of each repeat with the same key."""

    key: str
    spec: str
    job_ids: list[str] = field(default_factory=list)
    accepted_at: float = 0.0
    requests: list[StatusRequest] = field(default_factory=list)

    @property
    def job_id(self) -> str:
        return self.job_ids[0]

    def asked(self, kind: str) -> bool:
        return any(request.kind == kind and request.answer is not None for request in self.requests)


@dataclass
class PostedGeneration:
    """``shape``: which of the run's requests it is."""

    shape: str
    generation_id: str


@dataclass
class PostedDataset:
    dataset_id: str
    num_pictures: int
    accepted_at: float


@dataclass
class Ledger:
    """``busy``: what requests are under way right now (upload, post), with when they began."""

    jobs: list[PostedJob] = field(default_factory=list)
    datasets: list[PostedDataset] = field(default_factory=list)
    generations: list[PostedGeneration] = field(default_factory=list)
    busy: dict[str, float] = field(default_factory=dict)
    outages: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, posted: PostedJob) -> None:
        with self.lock:
            self.jobs.append(posted)

    def note_dataset(self, posted: PostedDataset) -> None:
        with self.lock:
            self.datasets.append(posted)

    def begin(self, what: str) -> None:
        self.busy[what] = time.time()

    def end(self, what: str) -> None:
        self.busy.pop(what, None)


class StubbornClient:
    """``stop`` ends its waiting: a call under way then raises Stopped."""

    def __init__(self, url: str, api_key: str, ledger: Ledger, stop: threading.Event) -> None:
        self.ledger, self._stop = ledger, stop
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {api_key}"}, timeout=TIMEOUT, trust_env=False
        )

    def close(self) -> None:
        self._http.close()

    def post_job(self, key: str, spec: str, dataset_id: str, *, again: bool = False, **changes: Any) -> PostedJob:
        """Until it is accepted. ``again``: posts it once more, as a client does whose answer was lost."""
        posted = PostedJob(key, spec)
        body = body_of(spec, dataset_id, **changes)
        for _ in range(2 if again else 1):
            answer = self.insist("POST", "/jobs", 201, busy="post", json=body, headers={"Idempotency-Key": key})
            posted.job_ids.append(answer.json()["id"])
        posted.accepted_at = time.time()
        self.ledger.note(posted)
        return posted

    def post_generation(self, shape: str, body: Mapping[str, Any]) -> PostedGeneration:
        """Until it is accepted. There are no keys for it: a repeat after a lost answer is another generation."""
        posted = PostedGeneration(shape, self.insist("POST", "/generations", 201, json=body).json()["id"])
        with self.ledger.lock:
            self.ledger.generations.append(posted)
        return posted

    def request_status(self, posted: PostedJob, kind: str) -> StatusRequest:
        """Until it is answered: 202, or 409 when the job has gone on."""
        sent_at = time.time()
        answer = self.insist("POST", f"/jobs/{posted.job_id}/{kind}", 202, 409)
        request = StatusRequest(kind, sent_at, answer.json()["status"] if answer.status_code == 202 else None)
        posted.requests.append(request)
        return request

    def upload(self, files: list[Path], *, drip: bool = False) -> PostedDataset:
        """Until it is accepted: each try is a dataset of its own. ``drip``: slowly, so that it lasts."""

        def send() -> httpx.Response:
            content, content_type = _multipart(files)
            parts = _drip(content) if drip else iter([content])
            return self._http.post("/datasets", content=parts, headers={"Content-Type": content_type})

        answer = self._insist(send, (202,), busy="upload")
        pictures = sum(path.suffix == ".png" for path in files)
        posted = PostedDataset(answer.json()["id"], pictures, time.time())
        self.ledger.note_dataset(posted)
        return posted

    def get(self, path: str) -> Any:
        return self.insist("GET", path, 200).json()

    def insist(self, method: str, path: str, *wanted: int, busy: str | None = None, **options: Any) -> httpx.Response:
        return self._insist(lambda: self._http.request(method, path, **options), wanted, busy)

    def _insist(
        self, send: Callable[[], httpx.Response], wanted: tuple[int, ...], busy: str | None = None
    ) -> httpx.Response:
        """Repeats over broken connections and 5xx. Any other answer is a fault of the service's: AssertionError."""
        while True:
            answer = self._try(send, busy)
            if answer is not None and answer.status_code in wanted:
                return answer
            assert answer is None or answer.status_code >= 500, f"{answer.status_code}: {answer.text}"
            why = "no answer" if answer is None else str(answer.status_code)
            self.ledger.outages[why] = self.ledger.outages.get(why, 0) + 1
            if self._stop.wait(PAUSE_SECONDS):
                raise Stopped

    def _try(self, send: Callable[[], httpx.Response], busy: str | None) -> httpx.Response | None:
        if busy:
            self.ledger.begin(busy)
        try:
            return send()
        except httpx.TransportError:
            return None
        finally:
            if busy:
                self.ledger.end(busy)


class Stopped(Exception):
    """The campaign is over."""


def _multipart(files: list[Path]) -> tuple[bytes, str]:
    request = httpx.Request("POST", "http://x", files=[("files", (path.name, path.read_bytes())) for path in files])
    return request.read(), request.headers["Content-Type"]


def _drip(content: bytes) -> Iterator[bytes]:
    step = max(1, len(content) // 16)
    for start in range(0, len(content), step):
        yield content[start : start + step]
        time.sleep(DRIP_SECONDS)
