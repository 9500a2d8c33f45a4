"""One attempt at one job: every report of the trainer becomes fenced writes, every failure a reason.

    fetch files -> [trainer: load, cache, train, sample, export] -> upload -> commit

Uploads come first, then one fenced transaction makes them visible.
"""

import logging
import shutil
import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from core.db import claims
from core.db.claims import Claim, LostLease
from core.db.tables import Job, JobCheckpoint
from core.domain.artifacts import Artifact, attempt_key
from core.domain.errors import ModelRejected
from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan
from core.domain.states import TERMINAL, JobStatus, TerminationReason
from core.model_folders import BaseMissing, find_planned_folder
from core.storage import StorageError, StorageFull, StorageUnavailable
from worker.fetching import InputDamaged, fetch_checkpoint, fetch_files
from worker.reporter import DatabaseGone, Heart, Outbox, describe_progress
from worker.results import describe_result
from worker.setbacks import explain_setback
from worker.slot import Worker
from worker.trainer.handle import TrainerDied, TrainerHandle
from worker.trainer.wire import (
    ENDS,
    AnyReport,
    CheckpointSaved,
    Failed,
    Finished,
    Halted,
    Noticed,
    PhaseEntered,
    RuntimeChosen,
    SamplesDrawn,
    StepDone,
    StopNow,
    Train,
    UnitDone,
    Validated,
)
from worker.workdirs import shared_cache_of, workdir_of

POLL_SECONDS = 0.5
PROGRESS_SECONDS = 1.0
STOP_GRACE_SECONDS = 10.0
RECENT_STEPS = 50
UPLOAD_TRIES = 5

log = logging.getLogger("atelier.attempt")


class StopAsked(Exception):
    """The job is to stop, and the trainer does not have it yet."""


class Attempt:
    """One attempt at one job. ``checkpoints`` (the newest first) and ``worked_seconds`` are of earlier ones."""

    def __init__(
        self,
        worker: Worker,
        job: Job,
        plan: TrainPlan,
        model: ModelInfo,
        drain: threading.Event,
        *,
        checkpoints: Sequence[JobCheckpoint],
        worked_seconds: float,
    ) -> None:
        self.worker, self.job, self.plan, self.model, self.drain = worker, job, plan, model, drain
        self.claim, self.checkpoints = Claim(job.id, job.attempt), checkpoints
        self.outbox = Outbox(worker.sessions, worker.bell, self.claim)
        self.workdir = workdir_of(worker.settings, job.id)
        self.metrics: list[dict[str, Any]] = []
        self.paces: list[float] = []
        self.step, self.loss = 0, None if job.progress is None else job.progress.get("loss")
        self.unit: dict[str, int] | None = None
        self.asked_at: float | None = None
        self.progressed_at = self.told_at = time.monotonic()
        self.counts_from = self.told_at - worked_seconds

    def run(self) -> None:
        settings = self.worker.settings
        heart = Heart(
            self.worker.sessions,
            self.claim,
            beat_seconds=settings.heartbeat_seconds,
            lease_seconds=settings.lease_seconds,
            also=lambda: self.worker.register(self.job.id),
        )
        log.info("job %s attempt %d begins", self.claim.job_id, self.claim.attempt)
        try:
            with heart:
                self._run(heart)
        except LostLease:
            log.warning("job %s attempt %d lost its lease: nothing more is written", *self._names())
            self.worker.drop_trainer()
        except DatabaseGone:
            log.error("job %s attempt %d: the database stayed away", *self._names())
            self.worker.drop_trainer()

    def _names(self) -> tuple[str, int]:
        return self.claim.job_id, self.claim.attempt

    def _run(self, heart: Heart) -> None:
        try:
            self._settle(self._train(heart))
        except StopAsked:
            self._stop()
        except TrainerDied as error:
            self._after_death(heart, str(error))
        except ModelRejected as error:
            self._end(claims.fail, TerminationReason.BAD_INPUT, error.detail)
        except BaseMissing as error:
            log.error("job %s attempt %d: %s", *self._names(), error)
            self._end(claims.put_off, str(error))
        except InputDamaged as error:
            self._end(claims.fail, TerminationReason.BAD_INPUT, str(error))
        except StorageError as error:
            log.error("job %s attempt %d: the storage failed: %s", *self._names(), error)
            self.worker.drop_trainer()
            passes = isinstance(error, (StorageUnavailable, StorageFull))
            self._end(claims.put_off if passes else claims.give_back, explain_setback(error))
        except (LostLease, DatabaseGone):
            raise
        except Exception as error:
            # Unforeseen, such as a full disk. The trainer may be at it still, and the next job must not hear of it.
            log.exception("job %s attempt %d failed in the worker", *self._names())
            self.worker.drop_trainer()
            self._end(claims.give_back, f"the worker failed ({type(error).__name__})")

    # --- training ---

    def _train(self, heart: Heart) -> AnyReport:
        """Sends the command and hears the trainer out, to its last word."""
        trainer = self.worker.warm_trainer()
        trainer.send(self._command(heart))
        self._note_progress()
        while True:
            report = trainer.receive(POLL_SECONDS)
            if heart.lost:
                raise LostLease(self.claim)
            if report is not None:
                self._hear(report)
            if isinstance(report, ENDS):
                return report
            self._pass_on_wishes(trainer, heart)
            self._watch_for_stall(trainer)
            self._tell_progress()
            self.outbox.flush()

    def _command(self, heart: Heart) -> Train:
        """The base is looked for last too: thousands of pictures take minutes, in which it may be replaced."""
        self._find_base()
        files = fetch_files(self.worker.storage, self.plan, self.workdir, lambda: self._check_wishes(heart))
        resume_from = self._fetch_checkpoint()
        return Train(
            plan=self.plan,
            runtime=self.job.runtime,
            model_folder=self._find_base(),
            model_parameters=self.model.num_parameters,
            device=self.worker.settings.device,
            cpu_threads=self.worker.settings.cpu_threads,
            files=files,
            # Its own: on one machine an attempt that lost its lease may still be writing beside this one.
            workdir=self.workdir / f"a{self.claim.attempt}",
            cache_folder=self.workdir / "cache",
            shared_cache=shared_cache_of(self.worker.settings),
            resume_from=resume_from,
        )

    def _find_base(self) -> Path:
        return find_planned_folder(self.worker.settings, self.model, self.plan.model_sha256)

    def _fetch_checkpoint(self) -> Path | None:
        path = self.workdir / "resume.safetensors"
        row = fetch_checkpoint(self.worker.storage, self.checkpoints, path)
        if row is None:
            return None
        self.step = row.step
        self.outbox.add(claims.notice, f"Resuming from the checkpoint at step {row.step}.")
        return path

    # --- what the trainer says ---

    def _hear(self, report: AnyReport) -> None:
        self._note_progress()
        match report:
            case RuntimeChosen():
                if self.job.runtime is None:
                    self.outbox.add(claims.write_runtime, report.runtime)
                    if report.warning is not None:
                        self.outbox.add(claims.notice, report.warning)
            case PhaseEntered():
                if self.metrics:
                    self._send_metrics()  # its steps are known before what follows them
                self.unit = None
                self.outbox.add(claims.enter_phase, report.phase)
            case UnitDone():
                self.unit = {"done": report.done, "total": report.total}
            case Noticed():
                self.outbox.add(claims.notice, report.message)
            case StepDone():
                self._hear_step(report)
            case Validated():
                self._hear_validation(report)
            case CheckpointSaved():
                self._keep_checkpoint(report)
            case SamplesDrawn():
                self._keep_samples(report)
            case _:
                pass

    def _note_progress(self) -> None:
        self.progressed_at = time.monotonic()

    def _hear_step(self, report: StepDone) -> None:
        self.step, self.loss, self.unit = report.step, report.loss, None
        self.paces = [*self.paces[1 - RECENT_STEPS :], report.seconds]
        self.metrics.append(
            {
                "step": report.step,
                "loss": report.loss,
                "learning_rate": report.learning_rate,
                "seconds_per_step": report.seconds,
            }
        )

    def _hear_validation(self, report: Validated) -> None:
        """The step itself may have been written already; step 0 is no step, and stands in the result alone."""
        self._send_metrics()
        if report.step > 0:
            self.outbox.add(claims.add_validation, step=report.step, loss=report.loss)

    def _keep_checkpoint(self, report: CheckpointSaved) -> None:
        artifact = self._upload(f"checkpoints/{report.path.name}", report.path)
        report.path.unlink(missing_ok=True)
        self._send_metrics()
        self.outbox.add(
            claims.add_checkpoint,
            step=report.step,
            loss=report.loss,
            artifact=artifact,
            keep=self.plan.checkpoint_keep,
            then=self._remove,
        )

    def _remove(self, keys: list[str]) -> None:
        """Old checkpoints, once no row names them. What cannot be removed now goes with the job."""
        for key in keys:
            with suppress(StorageError):
                self.worker.storage.delete(key)

    def _keep_samples(self, report: SamplesDrawn) -> None:
        images = []
        for picture in report.pictures:
            artifact = self._upload(f"samples/{picture.path.name}", picture.path, "image/png")
            images.append({"prompt": picture.prompt, "seed": picture.seed, **artifact.model_dump()})
        grid = self._upload(f"samples/{report.grid.name}", report.grid, "image/png")
        self.outbox.add(claims.add_sample, step=report.step, images=images, grid=grid)

    def _upload(self, name: str, path: Path, content_type: str = "application/octet-stream") -> Artifact:
        key = attempt_key(self.job.id, self.claim.attempt, name)
        for attempt in range(1, UPLOAD_TRIES + 1):
            try:
                stored = self.worker.storage.put_file(key, path, content_type=content_type)
                self._note_progress()
                return Artifact(key=key, sha256=stored.sha256, size=stored.size)
            except StorageError:
                if attempt == UPLOAD_TRIES:
                    raise
                time.sleep(0.5 * 2**attempt)
        raise AssertionError("unreachable")

    # --- what the trainer is told ---

    def _pass_on_wishes(self, trainer: TrainerHandle, heart: Heart) -> None:
        wants = self._wish(heart)
        if wants is None:
            return
        if self.asked_at is None:
            self.asked_at = time.monotonic()
            trainer.send(StopNow(save=wants is not JobStatus.CANCELING))
        elif time.monotonic() - self.asked_at > STOP_GRACE_SECONDS:
            self.worker.drop_trainer()  # the next receive tells of its death

    def _check_wishes(self, heart: Heart) -> None:
        """Raises LostLease or StopAsked."""
        if heart.lost:
            raise LostLease(self.claim)
        if self._wish(heart) is not None:
            raise StopAsked

    def _wish(self, heart: Heart) -> JobStatus | None:
        """Why the trainer should stop, if it should."""
        if heart.wish in {JobStatus.CANCELING, JobStatus.PAUSING}:
            return heart.wish
        if self._is_over_time():
            return JobStatus.CANCELING
        return JobStatus.QUEUED if self.drain.is_set() else None

    def _is_over_time(self) -> bool:
        limit = self.plan.max_duration_seconds
        return limit is not None and time.monotonic() - self.counts_from > limit

    def _watch_for_stall(self, trainer: TrainerHandle) -> None:
        """No unit of progress for long: the trainer hangs, and only its death frees the device."""
        median = statistics.median(self.paces) if self.paces else 0.0
        allowed = max(self.worker.settings.stall_seconds, 20 * median)
        if time.monotonic() - self.progressed_at > allowed:
            log.error("job %s attempt %d: no progress for %.0f s", *self._names(), allowed)
            trainer.kill()

    def _tell_progress(self) -> None:
        if time.monotonic() - self.told_at >= PROGRESS_SECONDS:
            self.told_at = time.monotonic()
            self._send_metrics()

    def _send_metrics(self) -> None:
        progress = describe_progress(
            step=self.step,
            num_steps=self.plan.steps,
            loss=self.loss,
            seconds_per_step=statistics.median(self.paces) if self.paces else None,
            unit=self.unit,
        )
        rows, self.metrics = self.metrics, []
        if rows:
            self.outbox.add(claims.add_metrics, rows)
        self.outbox.add(claims.beat, lease_seconds=self.worker.settings.lease_seconds, progress=progress)

    # --- the end ---

    def _settle(self, last_word: AnyReport) -> None:
        match last_word:
            case Finished():
                self._commit(last_word)
            case Halted():
                self._stop()
            case Failed(reason=TerminationReason.INFRASTRUCTURE):
                self.worker.drop_trainer()
                self._end(claims.give_back, last_word.detail)
            case Failed(lighter=dict() as lighter):
                self.worker.drop_trainer()  # what it holds is in pieces
                self._end(claims.retry_lighter, lighter, last_word.detail)
            case Failed():
                self._end(claims.fail, last_word.reason, last_word.detail)
            case _:
                raise AssertionError(f"not a last word: {last_word}")

    def _commit(self, finished: Finished) -> None:
        """Uploads, then the one transaction that makes the result visible."""
        artifacts = {f"adapter-{name}": self._upload(path.name, path) for name, path in sorted(finished.files.items())}
        self._send_metrics()
        undisturbed = self.claim.attempt == 1 and not finished.outcome.stopped_early
        seconds = time.monotonic() - self.counts_from if undisturbed else None
        result = describe_result(self.plan, finished.outcome, artifacts, undisturbed_seconds=seconds)
        self._end(claims.succeed, result=result, artifacts=artifacts)
        if self.worker.trainer is not None:
            self.worker.trainer.warm_model = self.model.id

    def _stop(self) -> None:
        if self._is_over_time():
            self._end(claims.fail, TerminationReason.TOO_LONG, "")
        else:
            self._end(claims.confirm_stop)

    def _after_death(self, heart: Heart, detail: str) -> None:
        """The trainer died: on our hand because it would not stop, or for a reason of its own."""
        self.worker.drop_trainer()
        if self.asked_at is not None and self._wish(heart) is not None:
            self._stop()
        else:
            self._end(claims.give_back, detail)

    def _end(self, write: Any, *args: Any, **kwargs: Any) -> None:
        self.outbox.add(write, *args, then=self._clear_up, **kwargs)
        self.outbox.drain()
        log.info("job %s attempt %d ended by %s", *self._names(), write.__name__)

    def _clear_up(self, status: JobStatus) -> None:
        """Unless the job goes on: its next attempt may come here and find its latents, and may be here already."""
        if status in TERMINAL:
            shutil.rmtree(self.workdir, ignore_errors=True)
