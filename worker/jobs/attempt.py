"""One attempt at one job: the trainer's reports become fenced writes, and every failure has a reason.

    fetch files -> [trainer: load, cache, train, sample, export] -> upload -> commit

Uploads come first, then one fenced transaction makes them visible.
"""

import logging
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.db import job_claims
from core.db.job_claims import Claim
from core.db.leases import LostLease
from core.db.tables import Job, JobCheckpoint
from core.domain.errors import ModelRejected
from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan
from core.domain.states import TERMINAL, JobStatus, Phase, TerminationReason
from core.model_folders import BaseMissing, find_planned_folder
from core.storage import StorageError, StorageFull, StorageUnavailable
from worker.deferrals import explain_waiting
from worker.device.heartbeat import HeldClaim
from worker.device.outbox import DatabaseGone, Outbox
from worker.device.slot import DeviceSlot
from worker.device.trainer import TrainerDied, TrainerRun
from worker.device.wire import (
    FINAL_REPORTS,
    Failed,
    Finished,
    PhaseEntered,
    RunReport,
    RuntimeChosen,
    Train,
    TrainingStopped,
)
from worker.generation_lane import GenerationLane
from worker.jobs.fetching import InputDamaged, fetch_checkpoint, fetch_files
from worker.jobs.reports import ReportSink
from worker.jobs.results import describe_result
from worker.jobs.stops import StopRequested, Stops
from worker.jobs.workdirs import encodings_of, shared_cache_of, workdir_of

POLL_SECONDS = 0.5

log = logging.getLogger("atelier.attempt")


class Attempt:
    """One attempt at one job. ``checkpoints`` (newest first) and ``worked_seconds`` are from earlier ones."""

    def __init__(
        self,
        slot: DeviceSlot,
        job: Job,
        plan: TrainPlan,
        model: ModelInfo,
        drain: threading.Event,
        *,
        checkpoints: Sequence[JobCheckpoint],
        worked_seconds: float,
    ) -> None:
        self.slot, self.job, self.plan, self.model = slot, job, plan, model
        self.claim, self.checkpoints = Claim(job.id, job.attempt), checkpoints
        self.outbox = Outbox(slot.sessions, slot.bell, self.claim)
        self.reports = ReportSink(slot, job, plan, self.outbox)
        self.workdir = workdir_of(slot.settings, job.id)
        self.started_at = time.monotonic() - worked_seconds
        self.held = HeldClaim(self.claim)
        self.stops = Stops(plan, self.held, drain, self.started_at)
        self.sent_requests: set[str] = set()

    def run(self) -> None:
        log.info("job %s attempt %d begins", *self._names())
        try:
            with self.slot.heartbeats.track(self.held):
                self._run()
        except LostLease:
            log.warning("job %s attempt %d lost its lease: nothing more is written", *self._names())
            self.slot.drop_trainer()
        except DatabaseGone:
            log.error("job %s attempt %d: the database stayed away", *self._names())
            self.slot.drop_trainer()

    def _names(self) -> tuple[str, int]:
        return self.claim.job_id, self.claim.attempt

    def _run(self) -> None:
        try:
            self._finish(self._train())
        except StopRequested:
            self._stop()
        except TrainerDied as error:
            self._after_death(str(error))
        except ModelRejected as error:
            self._end(job_claims.fail, TerminationReason.BAD_INPUT, error.detail)
        except BaseMissing as error:
            log.error("job %s attempt %d: %s", *self._names(), error)
            self._end(job_claims.defer, str(error))
        except InputDamaged as error:
            self._end(job_claims.fail, TerminationReason.BAD_INPUT, str(error))
        except StorageError as error:
            log.error("job %s attempt %d: the storage failed: %s", *self._names(), error)
            self.slot.drop_trainer()
            passes = isinstance(error, (StorageUnavailable, StorageFull))
            self._end(job_claims.defer if passes else job_claims.retry, explain_waiting(error))
        except (LostLease, DatabaseGone):
            raise
        except Exception as error:
            # Unexpected, such as a full disk. The trainer may still be running, and its reports must not reach the next
            # job.
            log.exception("job %s attempt %d failed in the worker", *self._names())
            self.slot.drop_trainer()
            self._end(job_claims.retry, f"the worker failed ({type(error).__name__})")

    # --- training ---

    def _train(self) -> RunReport:
        """Sends the command and takes the trainer's reports, to the final one."""
        trainer = self.slot.warm_trainer()
        command = self._command()
        run = trainer.start(command)
        self.reports.record_progress()
        try:
            with GenerationLane(self.slot, trainer, self.plan.model_sha256) as lane:
                return self._follow(run, lane)
        finally:
            trainer.forget(command.run_id)

    def _follow(self, run: TrainerRun, lane: GenerationLane) -> RunReport:
        lends = False
        while True:
            report = run.receive(POLL_SECONDS)
            self.held.raise_if_lost()
            if report is not None:
                self.reports.on_report(report)
            if isinstance(report, FINAL_REPORTS):
                return report
            if isinstance(report, RuntimeChosen):
                lends = report.lends
            elif lends and isinstance(report, PhaseEntered) and report.phase is Phase.TRAINING:
                lane.open()
            self.stops.lent_seconds = lane.seconds
            self.stops.forward(self.slot, run)
            self._forward_requests(run)
            self._kill_if_stalled(run)
            self.reports.write_progress_if_due()
            self.outbox.flush()

    def _forward_requests(self, run: TrainerRun) -> None:
        """Each once; those that this attempt does not draw wait for the next one."""
        for request in self.held.sample_requests:
            if request.id not in self.sent_requests:
                run.draw_samples(request.id, request.prompts, request.seed)
                self.sent_requests.add(request.id)

    def _command(self) -> Train:
        """The base is looked up again at the end: fetching thousands of images takes minutes, in which it may be
        replaced."""
        self._find_base()
        files = fetch_files(self.slot.storage, self.plan, self.workdir, self.stops.raise_if_requested)
        resume_from = self._fetch_checkpoint()
        return Train(
            run_id=f"{self.claim.job_id}/{self.claim.attempt}",
            plan=self.plan,
            runtime=self.job.runtime,
            model_folder=self._find_base(),
            model=self.model,
            cpu_threads=self.slot.settings.cpu_threads,
            files=files,
            # Per attempt: on one machine an attempt that lost its lease may still be writing beside this one.
            workdir=self.workdir / f"a{self.claim.attempt}",
            cache_folder=encodings_of(self.slot.settings, self.job.tenant_id),
            shared_cache=shared_cache_of(self.slot.settings),
            resume_from=resume_from,
        )

    def _find_base(self) -> Path:
        return find_planned_folder(self.slot.settings, self.model, self.plan.model_sha256)

    def _fetch_checkpoint(self) -> Path | None:
        path = self.workdir / "resume.safetensors"
        row = fetch_checkpoint(self.slot.storage, self.checkpoints, path)
        if row is None:
            return None
        self.reports.resume_at(row.step)
        return path

    def _kill_if_stalled(self, run: TrainerRun) -> None:
        """A trainer that makes no progress for long hangs, and only killing it frees the device."""
        allowed = max(self.slot.settings.stall_seconds, 20 * (self.reports.median_step_seconds or 0.0))
        if time.monotonic() - self.reports.last_progress_at > allowed:
            log.error("job %s attempt %d: no progress for %.0f s", *self._names(), allowed)
            run.kill()

    # --- the end ---

    def _finish(self, final_report: RunReport) -> None:
        match final_report:
            case Finished():
                self._commit(final_report)
            case TrainingStopped():
                self._stop()
            case Failed(reason=TerminationReason.INFRASTRUCTURE):
                self.slot.drop_trainer()
                self._end(job_claims.retry, final_report.detail)
            case Failed(retry_runtime=dict() as runtime):
                self.slot.keeps_bases = self.slot.keeps_bases and len(self.slot.warm_models) < 2
                self.slot.drop_trainer()  # out of memory: its state is not trusted
                self._end(job_claims.retry_with_runtime, runtime, final_report.detail)
            case Failed():
                self._end(job_claims.fail, final_report.reason, final_report.detail)
            case _:
                raise AssertionError(f"not a final report: {final_report}")

    def _commit(self, finished: Finished) -> None:
        """Uploads, then the one transaction that makes the result visible."""
        upload = self.reports.upload
        artifacts = {f"adapter-{name}": upload(path.name, path) for name, path in sorted(finished.files.items())}
        self.reports.write_progress()
        alone = self.claim.attempt == 1 and not self.stops.lent_seconds
        undisturbed = alone and not finished.outcome.stopped_early
        seconds = time.monotonic() - self.started_at if undisturbed else None
        result = describe_result(self.plan, finished.outcome, finished.proofs, artifacts, undisturbed_seconds=seconds)
        self._end(job_claims.succeed, result=result, artifacts=artifacts)

    def _stop(self) -> None:
        if self.stops.is_over_time():
            self._end(job_claims.fail, TerminationReason.TOO_LONG, "")
        else:
            self._end(job_claims.acknowledge_stop)

    def _after_death(self, detail: str) -> None:
        """The trainer died: we killed it because it would not stop, or it died by itself."""
        self.slot.drop_trainer()
        if self.stops.was_forwarded and self.stops.reason is not None:
            self._stop()
        else:
            self._end(job_claims.retry, detail)

    def _end(self, write: Any, *args: Any, **kwargs: Any) -> None:
        self.outbox.add(write, *args, then=self._clear_up, **kwargs)
        self.outbox.drain()
        log.info("job %s attempt %d ended by %s", *self._names(), write.__name__)

    def _clear_up(self, status: JobStatus) -> None:
        """Unless the job continues: its next attempt may run here and reuse its images, or may already run here."""
        if status in TERMINAL:
            shutil.rmtree(self.workdir, ignore_errors=True)
