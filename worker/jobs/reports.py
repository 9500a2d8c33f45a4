"""Turns the trainer's reports into fenced writes in the outbox; files are uploaded before their rows are written."""

import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from core.db import job_claims, job_output_claims
from core.db.job_claims import Claim
from core.db.tables import Job
from core.domain.artifacts import Artifact, attempt_key
from core.domain.plan import TrainPlan
from core.storage import StorageError
from worker.device.outbox import Outbox
from worker.device.slot import DeviceSlot
from worker.device.wire import (
    AdapterKept,
    CheckpointSaved,
    ImageReport,
    Noticed,
    PhaseEntered,
    RequestedSamplesDrawn,
    RunReport,
    RuntimeChosen,
    SampleRequestFailed,
    SamplesDrawn,
    StepDone,
    UnitDone,
    Validated,
)

PROGRESS_SECONDS = 1.0
RECENT_STEPS = 50
UPLOAD_TRIES = 5


class ReportSink:
    """Keeps the job's progress, and records it every PROGRESS_SECONDS."""

    def __init__(self, slot: DeviceSlot, job: Job, plan: TrainPlan, outbox: Outbox) -> None:
        self._slot, self._job, self._plan, self._outbox = slot, job, plan, outbox
        self._claim = Claim(job.id, job.attempt)
        self._metrics: list[dict[str, Any]] = []
        self._step_seconds: list[float] = []
        self._step, self._loss = 0, None if job.progress is None else job.progress.get("loss")
        self._unit: dict[str, int] | None = None
        self.last_progress_at = self._written_at = time.monotonic()

    @property
    def median_step_seconds(self) -> float | None:
        """Over the last RECENT_STEPS."""
        return statistics.median(self._step_seconds) if self._step_seconds else None

    def resume_at(self, step: int) -> None:
        self._step = step
        self._outbox.add(job_claims.add_notice, f"Resuming from the checkpoint at step {step}.")

    def record_progress(self) -> None:
        self.last_progress_at = time.monotonic()

    def on_report(self, report: RunReport) -> None:
        """May raise StorageError, after UPLOAD_TRIES."""
        self.record_progress()
        match report:
            case RuntimeChosen():
                self._on_runtime(report)
            case PhaseEntered():
                if self._metrics:
                    self.write_progress()  # before the phase, so that clients see the steps first
                self._unit = None
                self._outbox.add(job_claims.enter_phase, report.phase)
            case UnitDone():
                self._unit = {"done": report.done, "total": report.total}
            case Noticed():
                self._outbox.add(job_claims.add_notice, report.message)
            case StepDone():
                self._on_step(report)
            case Validated():
                self._on_validation(report)
            case CheckpointSaved():
                self._store_checkpoint(report)
            case SamplesDrawn():
                self._store_samples(report)
            case AdapterKept():
                self._store_adapter(report)
            case RequestedSamplesDrawn():
                self._store_requested(report)
            case SampleRequestFailed():
                self._outbox.add(job_output_claims.fail_request, request_id=report.request_id, detail=report.detail)
            case _:
                pass

    def upload(self, name: str, path: Path, content_type: str = "application/octet-stream") -> Artifact:
        """Raises StorageError after UPLOAD_TRIES."""
        key = attempt_key(self._claim.job_id, self._claim.attempt, name)
        for attempt in range(1, UPLOAD_TRIES + 1):
            try:
                stored = self._slot.storage.put_file(key, path, content_type=content_type)
                self.record_progress()
                return Artifact(key=key, sha256=stored.sha256, size=stored.size)
            except StorageError:
                if attempt == UPLOAD_TRIES:
                    raise
                time.sleep(0.5 * 2**attempt)
        raise AssertionError("unreachable")

    def write_progress_if_due(self) -> None:
        if time.monotonic() - self._written_at >= PROGRESS_SECONDS:
            self._written_at = time.monotonic()
            self.write_progress()

    def write_progress(self) -> None:
        progress = describe_progress(
            step=self._step,
            num_steps=self._plan.steps,
            loss=self._loss,
            seconds_per_step=self.median_step_seconds,
            unit=self._unit,
        )
        rows, self._metrics = self._metrics, []
        if rows:
            self._outbox.add(job_claims.add_metrics, rows)
        self._outbox.add(job_claims.renew_lease, lease_seconds=self._slot.settings.lease_seconds, progress=progress)

    def _on_runtime(self, report: RuntimeChosen) -> None:
        if self._job.runtime is not None:
            return
        self._outbox.add(job_claims.write_runtime, report.runtime)
        if report.warning is not None:
            self._outbox.add(job_claims.add_notice, report.warning)

    def _on_step(self, report: StepDone) -> None:
        self._step, self._loss, self._unit = report.step, report.loss, None
        self._step_seconds = [*self._step_seconds[1 - RECENT_STEPS :], report.seconds]
        self._metrics.append(
            {
                "step": report.step,
                "loss": report.loss,
                "learning_rate": report.learning_rate,
                "seconds_per_step": report.seconds,
            }
        )

    def _on_validation(self, report: Validated) -> None:
        """The step's own row may already exist. Step 0 is the base's loss: only the result contains it."""
        self.write_progress()
        if report.step > 0:
            self._outbox.add(job_claims.add_validation, step=report.step, loss=report.loss)

    def _store_checkpoint(self, report: CheckpointSaved) -> None:
        artifact = self.upload(f"checkpoints/{report.path.name}", report.path)
        report.path.unlink(missing_ok=True)
        self.write_progress()
        self._outbox.add(
            job_claims.add_checkpoint,
            step=report.step,
            loss=report.loss,
            artifact=artifact,
            keep=self._plan.checkpoint_keep,
            then=self._remove,
        )

    def _remove(self, keys: list[str]) -> None:
        """Old checkpoints, once no row names them. Those that cannot be removed now are removed with the job."""
        for key in keys:
            with suppress(StorageError):
                self._slot.storage.delete(key)

    def _store_samples(self, report: SamplesDrawn) -> None:
        images = [self._store_image(sample) for sample in report.images]
        grid = self.upload(f"samples/{report.grid.name}", report.grid, "image/png")
        self._outbox.add(job_claims.add_sample, step=report.step, images=images, grid=grid)

    def _store_image(self, sample: ImageReport) -> dict[str, Any]:
        artifact = self.upload(f"samples/{sample.path.name}", sample.path, "image/png")
        return {"prompt": sample.prompt, "seed": sample.seed, **artifact.model_dump()}

    def _store_adapter(self, report: AdapterKept) -> None:
        files = {}
        for name, path in report.files.items():
            files[name] = self.upload(f"adapters/step-{report.step:06d}-{name}.safetensors", path)
            path.unlink(missing_ok=True)
        self.write_progress()
        alone = self._plan.checkpoint_adapters == "last"
        self._outbox.add(job_output_claims.keep_adapter, step=report.step, files=files, alone=alone, then=self._remove)

    def _store_requested(self, report: RequestedSamplesDrawn) -> None:
        images = [self._store_image(sample) for sample in report.images]
        self.write_progress()
        self._outbox.add(
            job_output_claims.add_requested_samples, request_id=report.request_id, step=report.step, images=images
        )


def describe_progress(
    *, step: int, num_steps: int, loss: float | None, seconds_per_step: float | None, unit: Mapping[str, int] | None
) -> dict[str, Any]:
    """The job's ``progress``. ``eta_seconds`` covers the remaining steps, and is None after the last."""
    left = None if seconds_per_step is None or step >= num_steps else round((num_steps - step) * seconds_per_step, 1)
    return {
        "step": step,
        "num_steps": num_steps,
        "percent": round(100 * step / num_steps, 1),
        "seconds_per_step": None if seconds_per_step is None else round(seconds_per_step, 4),
        "eta_seconds": left,
        "loss": None if loss is None else round(loss, 6),
        **({"units_done": unit["done"], "units_total": unit["total"]} if unit else {}),
    }
