"""A job's steps: their adapters, the promotion of one, samples that are requested, and the job's history as files."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from pydantic import Field

from atelier_client.calls import Calls
from atelier_client.downloads import announced_name, save
from atelier_client.errors import PromotionFailed, SamplesNotDrawn
from atelier_client.models import AdapterFormat, Answer, ErrorInfo, Page
from atelier_client.transport import quote
from atelier_client.waiting import make_wait, poll, report_waiting, retry

WAIT_SECONDS = 20


class StepFile(Answer):
    """``url`` is a path of the service."""

    url: str
    sha256: str
    size: int


class Step(Answer):
    """A step whose adapter is kept. ``is_promoted``: it is the job's own adapter."""

    step: int
    loss: float | None = None
    validation_loss: float | None = None
    is_promoted: bool = False
    files: dict[AdapterFormat, StepFile] = Field(default_factory=dict)
    grid_url: str | None = None
    created_at: datetime


class Promotion(Answer):
    """A request that another step's adapter becomes the job's."""

    id: str
    status: str
    job: str
    step: int
    error: ErrorInfo | None = None
    waiting_reason: str | None = None


class RequestedImage(Answer):
    """``url`` is a path of the service."""

    prompt: str
    seed: int
    url: str
    sha256: str
    size: int


class SampleRequest(Answer):
    """Images that were requested of a running job. ``step``: the one that they show, once they are drawn."""

    id: str
    status: str
    job: str
    prompts: tuple[str, ...] = ()
    seed: int = 0
    step: int | None = None
    images: tuple[RequestedImage, ...] = ()
    error: ErrorInfo | None = None
    created_at: datetime
    drawn_at: datetime | None = None


class StepCalls(Calls):
    def list_steps(self, job_id: str) -> Iterator[Step]:
        """Those whose adapters are kept, also while the job runs."""
        return self._list(f"/jobs/{quote(job_id)}/steps", Page[Step])

    def promote_step(
        self,
        job_id: str,
        step: int,
        *,
        timeout_seconds: float | None = None,
        on_waiting: Callable[[str], None] = lambda _: None,
    ) -> Promotion:
        """Makes another step's adapter the job's, and returns once a worker has proved that its files load. Raises
        PromotionFailed, WaitTimeout. ``on_waiting`` is called with the reason if the service has to postpone it."""
        path, params = f"/jobs/{quote(job_id)}/promote", {"wait": make_wait(WAIT_SECONDS, timeout_seconds)()}
        first = self._transport.ask("POST", path, Promotion, json={"step": step}, params=params)
        answers = iter([first])

        def fetch() -> Promotion:
            return next(answers, None) or self._transport.get(f"/jobs/{quote(job_id)}/promotion", Promotion)

        promotion = poll(
            fetch,
            lambda promotion: promotion.status == "checking",
            timeout_seconds=timeout_seconds,
            what=f"Step {step} of job {job_id} is still being promoted",
            on_pending=report_waiting(on_waiting),
        )
        if promotion.status != "done":
            raise PromotionFailed(promotion.error.detail if promotion.error else f"Promotion {first.id} failed.")
        return promotion

    def request_samples(self, job_id: str, prompts: Sequence[str], *, seed: int = 0) -> SampleRequest:
        """Has a running job draw these prompts at its next step. It changes nothing in the training."""
        body = {"prompts": list(prompts), "seed": seed}
        return self._create(f"/jobs/{quote(job_id)}/samples", SampleRequest, body)

    def list_sample_requests(self, job_id: str) -> Iterator[SampleRequest]:
        """Oldest first."""
        return self._list(f"/jobs/{quote(job_id)}/samples/requests", Page[SampleRequest])

    def get_sample_request(self, job_id: str, request_id: str, *, wait_seconds: float = 0) -> SampleRequest:
        """``wait_seconds``: for its answer, at most a minute."""
        params = {"wait": str(wait_seconds)} if wait_seconds else None
        path = f"/jobs/{quote(job_id)}/samples/requests/{quote(request_id)}"
        return self._transport.get(path, SampleRequest, params=params)

    def wait_for_samples(self, job_id: str, request_id: str, *, timeout_seconds: float | None = None) -> SampleRequest:
        """Returns the request once its images are drawn. Raises SamplesNotDrawn if they cannot be or the job has
        ended, and WaitTimeout."""
        wait = make_wait(WAIT_SECONDS, timeout_seconds)
        request = poll(
            lambda: self.get_sample_request(job_id, request_id, wait_seconds=wait()),
            lambda request: request.status == "waiting",
            timeout_seconds=timeout_seconds,
            what=f"Request {request_id} still waits for the job's next step",
        )
        if request.status != "drawn":
            missed = f"Job {job_id} ended before the samples of request {request_id} were drawn."
            raise SamplesNotDrawn(request.error.detail if request.error else missed)
        return request

    def download_requested_sample(self, job_id: str, request_id: str, index: int, target: Path) -> str:
        """Returns the file's sha256. Raises DownloadDamaged, InputError."""
        return self._download(f"/jobs/{quote(job_id)}/samples/requests/{quote(request_id)}/{index}.png", target)

    def download_metrics(self, job_id: str, target: Path) -> str:
        """The metrics as comma-separated values. Returns the file's sha256."""
        return self._download(f"/jobs/{quote(job_id)}/metrics.csv", target)

    def download_event_file(self, job_id: str, folder: Path) -> Path:
        """The metrics for TensorBoard, in a folder for its ``--logdir``. TensorBoard goes by the file's name."""

        def fetch() -> Path:
            with self._transport.stream(f"/jobs/{quote(job_id)}/tensorboard") as response:
                target = folder / (announced_name(response) or f"events.out.tfevents.0.{job_id}")
                save(response, target)
                return target

        return retry(fetch)

    def download_report(self, job_id: str, target: Path) -> str:
        """The job's report, an HTML page that holds its images. Returns the file's sha256."""
        return self._download(f"/jobs/{quote(job_id)}/report", target)
