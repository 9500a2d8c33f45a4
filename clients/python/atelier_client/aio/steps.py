"""Made from ``atelier_client.steps`` by ``scripts/make_async_client.py``: change that, and run it again."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from atelier_client.aio.calls import Calls
from atelier_client.aio.downloads import save
from atelier_client.aio.waiting import poll, retry
from atelier_client.downloads import announced_name
from atelier_client.errors import PromotionFailed, SamplesNotDrawn
from atelier_client.models import Page
from atelier_client.steps import WAIT_SECONDS, Promotion, SampleRequest, Step
from atelier_client.transport import quote
from atelier_client.waiting import make_wait, report_waiting


class StepCalls(Calls):
    def list_steps(self, job_id: str) -> AsyncIterator[Step]:
        """Those whose adapters are kept, also while the job runs."""
        return self._list(f"/jobs/{quote(job_id)}/steps", Page[Step])

    async def promote_step(
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
        first = await self._transport.ask("POST", path, Promotion, json={"step": step}, params=params)
        answers = iter([first])

        async def fetch() -> Promotion:
            return next(answers, None) or await self._transport.get(f"/jobs/{quote(job_id)}/promotion", Promotion)

        promotion = await poll(
            fetch,
            lambda promotion: promotion.status == "checking",
            timeout_seconds=timeout_seconds,
            what=f"Step {step} of job {job_id} is still being promoted",
            on_pending=report_waiting(on_waiting),
        )
        if promotion.status != "done":
            raise PromotionFailed(promotion.error.detail if promotion.error else f"Promotion {first.id} failed.")
        return promotion

    async def request_samples(self, job_id: str, prompts: Sequence[str], *, seed: int = 0) -> SampleRequest:
        """Has a running job draw these prompts at its next step. It changes nothing in the training."""
        body = {"prompts": list(prompts), "seed": seed}
        return await self._create(f"/jobs/{quote(job_id)}/samples", SampleRequest, body)

    def list_sample_requests(self, job_id: str) -> AsyncIterator[SampleRequest]:
        """Oldest first."""
        return self._list(f"/jobs/{quote(job_id)}/samples/requests", Page[SampleRequest])

    async def get_sample_request(self, job_id: str, request_id: str, *, wait_seconds: float = 0) -> SampleRequest:
        """``wait_seconds``: for its answer, at most a minute."""
        params = {"wait": str(wait_seconds)} if wait_seconds else None
        path = f"/jobs/{quote(job_id)}/samples/requests/{quote(request_id)}"
        return await self._transport.get(path, SampleRequest, params=params)

    async def wait_for_samples(
        self, job_id: str, request_id: str, *, timeout_seconds: float | None = None
    ) -> SampleRequest:
        """Returns the request once its images are drawn. Raises SamplesNotDrawn if they cannot be or the job has
        ended, and WaitTimeout."""
        wait = make_wait(WAIT_SECONDS, timeout_seconds)
        request = await poll(
            lambda: self.get_sample_request(job_id, request_id, wait_seconds=wait()),
            lambda request: request.status == "waiting",
            timeout_seconds=timeout_seconds,
            what=f"Request {request_id} still waits for the job's next step",
        )
        if request.status != "drawn":
            missed = f"Job {job_id} ended before the samples of request {request_id} were drawn."
            raise SamplesNotDrawn(request.error.detail if request.error else missed)
        return request

    async def download_requested_sample(self, job_id: str, request_id: str, index: int, target: Path) -> str:
        """Returns the file's sha256. Raises DownloadDamaged, InputError."""
        return await self._download(f"/jobs/{quote(job_id)}/samples/requests/{quote(request_id)}/{index}.png", target)

    async def download_metrics(self, job_id: str, target: Path) -> str:
        """The metrics as comma-separated values. Returns the file's sha256."""
        return await self._download(f"/jobs/{quote(job_id)}/metrics.csv", target)

    async def download_event_file(self, job_id: str, folder: Path) -> Path:
        """The metrics for TensorBoard, in a folder for its ``--logdir``. TensorBoard goes by the file's name."""

        async def fetch() -> Path:
            async with self._transport.stream(f"/jobs/{quote(job_id)}/tensorboard") as response:
                target = folder / (announced_name(response) or f"events.out.tfevents.0.{job_id}")
                await save(response, target)
                return target

        return await retry(fetch)

    async def download_report(self, job_id: str, target: Path) -> str:
        """The job's report, an HTML page that holds its images. Returns the file's sha256."""
        return await self._download(f"/jobs/{quote(job_id)}/report", target)
