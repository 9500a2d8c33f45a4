"""The trainer's own program: reads commands from stdin, writes reports to what was stdout.

It keeps bases warm, holds a lock per device so that no two trainers share one, and ends with its parent or with
stdin. It logs an unexpected error, reports it as an infrastructure failure, and exits: the next job then gets a new
process.
"""

import argparse
import fcntl
import gc
import logging
import os
import queue
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NoReturn

from worker.device.wire import (
    COMMANDS,
    AdapterKept,
    Alive,
    CheckpointSaved,
    DrawSamples,
    Failed,
    Finished,
    Generate,
    Generated,
    ImageDrawn,
    ImageReport,
    Message,
    Noticed,
    PhaseEntered,
    Ready,
    RequestedSamplesDrawn,
    RuntimeChosen,
    SampleRequestFailed,
    SamplesDrawn,
    StepDone,
    Train,
    TrainingStopped,
    UnitDone,
    Validated,
)
from worker.parent import die_with_parent

# before torch is imported: cuBLAS reads it once, and nothing may be downloaded while a job runs
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
gc.disable()  # imports make a million objects to be kept: looking through them meanwhile takes a second

import torch

from core.domain.artifacts import AdapterFormat
from core.domain.memory import DeviceKind, Setting, choose_numerics, predict_generation, predict_peak
from core.domain.states import Phase, TerminationReason
from core.logs import configure_logging
from worker.engine.adapter_files.proof.layers import list_layers
from worker.engine.adapter_files.proof.loaded_files import describe_modules, prove_files
from worker.engine.adapters import unchanged
from worker.engine.device import (
    Runtime,
    choose_runtime,
    generation_runtime,
    is_out_of_memory,
    name_device,
    reduce_memory,
    total_memory_bytes,
    warn_of_emulation,
)
from worker.engine.errors import BadInput, NanLoss, describe_unexpected
from worker.engine.families import load_base
from worker.engine.families.protocol import Base
from worker.engine.families.registry import build_networks
from worker.engine.generation.generate import generate
from worker.engine.observer import SampleImage, SampleRequest, StepReport, Stop, Stopped
from worker.engine.training.train import train
from worker.engine.warm import WarmBases, tidy

log = logging.getLogger("atelier.trainer")


class ReportPipe:
    """The pipe to the worker."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe

    def send(self, message: Message) -> None:
        self._pipe.write(message.line())
        self._pipe.flush()


class CommandReader:
    """Reads commands in a thread: runs queue up, a stop takes effect at once, requested samples at the next step."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._waiting: queue.Queue[Train | Generate | None] = queue.Queue()
        self._stops: dict[str, Stop | None] = {}  # by run: those received and not yet ended
        self._requests: defaultdict[str, deque[SampleRequest]] = defaultdict(deque)  # by run
        self._is_closed = False
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def _read(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            command = COMMANDS.validate_json(line)
            if isinstance(command, (Train, Generate)):
                self._stops[command.run_id] = None
                self._waiting.put(command)
            elif command.run_id not in self._stops:
                pass  # the run has ended
            elif isinstance(command, DrawSamples):
                request = SampleRequest(command.request_id, command.prompts, command.seed)
                self._requests[command.run_id].append(request)
            else:
                self._stops[command.run_id] = Stop.SAVE if command.save else Stop.DROP
        self._is_closed = True
        self._waiting.put(None)

    def runs(self) -> Iterator[Train | Generate]:
        return iter(self._waiting.get, None)

    def find_stop(self, run_id: str) -> Stop | None:
        """The worker's request for the run; once the worker is gone, that every run is dropped."""
        return Stop.DROP if self._is_closed else self._stops.get(run_id)

    def next_request(self, run_id: str) -> SampleRequest | None:
        requests = self._requests[run_id]
        return requests.popleft() if requests else None

    def forget(self, run_id: str) -> None:
        """The run has ended."""
        self._stops.pop(run_id, None)
        self._requests.pop(run_id, None)


class PipeObserver:
    """A run's observer: reports go to the worker, stop requests come from it."""

    def __init__(self, reports: ReportPipe, commands: CommandReader, run_id: str) -> None:
        self._reports, self._commands, self._run_id = reports, commands, run_id
        self._phase: Phase | None = None

    def phase(self, phase: Phase) -> None:
        """The loop reports training before each step; the worker gets it once. Every sampling is reported."""
        if (self._phase, phase) != (Phase.TRAINING, Phase.TRAINING):
            self._reports.send(PhaseEntered(run_id=self._run_id, phase=phase))
        self._phase = phase

    def unit(self, done: int, total: int) -> None:
        self._reports.send(UnitDone(run_id=self._run_id, done=done, total=total))

    def alive(self) -> None:
        self._reports.send(Alive(run_id=self._run_id))

    def notice(self, message: str) -> None:
        self._reports.send(Noticed(run_id=self._run_id, message=message))

    def step(self, report: StepReport) -> None:
        self._reports.send(
            StepDone(
                run_id=self._run_id,
                step=report.step,
                loss=report.loss,
                learning_rate=report.learning_rate,
                seconds=report.seconds,
            )
        )

    def validated(self, step: int, loss: float) -> None:
        self._reports.send(Validated(run_id=self._run_id, step=step, loss=loss))

    def checkpoint(self, step: int, loss: float, path: Path) -> None:
        self._reports.send(CheckpointSaved(run_id=self._run_id, step=step, loss=loss, path=path))

    def samples(self, step: int, images: list[SampleImage], grid: Path) -> None:
        self._reports.send(SamplesDrawn(run_id=self._run_id, step=step, images=_describe(images), grid=grid))

    def adapter(self, step: int, files: Mapping[AdapterFormat, Path]) -> None:
        self._reports.send(AdapterKept(run_id=self._run_id, step=step, files=dict(files)))

    def next_sample_request(self) -> SampleRequest | None:
        return self._commands.next_request(self._run_id)

    def requested_samples(self, request_id: str, step: int, images: list[SampleImage]) -> None:
        self._reports.send(
            RequestedSamplesDrawn(run_id=self._run_id, request_id=request_id, step=step, images=_describe(images))
        )

    def sample_request_failed(self, request_id: str, detail: str) -> None:
        self._reports.send(SampleRequestFailed(run_id=self._run_id, request_id=request_id, detail=detail))

    def should_stop(self) -> Stop | None:
        return self._commands.find_stop(self._run_id)


def _describe(images: list[SampleImage]) -> list[ImageReport]:
    return [ImageReport(prompt=row.prompt, seed=row.seed, path=row.path) for row in images]


class Trainer:
    """Trains and draws, one run after the other, on one device."""

    def __init__(self, device: torch.device, reports: ReportPipe, commands: CommandReader) -> None:
        self._device, self._reports, self._commands = device, reports, commands
        self._warm = WarmBases(device)

    def run(self, command: Train | Generate) -> Message:
        """The run's final report."""
        runtime = self._choose_runtime(command)
        try:
            if isinstance(command, Generate):
                return self._generate(command, runtime)
            return self._train(command, runtime)
        except Stopped:
            return TrainingStopped(run_id=command.run_id)
        except NanLoss as error:
            return Failed(run_id=command.run_id, reason=TerminationReason.NAN_LOSS, detail=str(error))
        except BadInput as error:
            return Failed(run_id=command.run_id, reason=TerminationReason.BAD_INPUT, detail=str(error))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            log.warning("out of memory", exc_info=error)
        finally:
            self._commands.forget(command.run_id)
            tidy(self._device)  # a run may be stopped anywhere: its memory is freed, except the warm bases
        others = self._warm.count > 1
        self._warm.drop_all()
        if isinstance(command, Generate):
            return Failed(run_id=command.run_id, reason=TerminationReason.OUT_OF_MEMORY, detail="")
        return _fail_for_memory(command, runtime, others_in_memory=others)

    def _train(self, command: Train, runtime: Runtime) -> Message:
        plan = command.plan
        observer = PipeObserver(self._reports, self._commands, command.run_id)
        base = self._load(command, runtime)
        with unchanged(base):
            result = train(
                plan, runtime, base, command.files, observer, command.workdir, command.resume_from,
                command.cache_folder, command.shared_cache,
            )  # fmt: skip
        networks = build_networks(plan.family, base.folder)
        layers = list_layers(plan.family, networks)
        proofs = prove_files(layers, networks, result.files, describe_modules(result.modules))
        return Finished(run_id=command.run_id, files=dict(result.files), outcome=result.outcome, proofs=proofs)

    def _generate(self, command: Generate, runtime: Runtime) -> Message:
        observer = PipeObserver(self._reports, self._commands, command.run_id)
        base = self._load(command, runtime)
        for image in generate(command.plan, runtime, base, command.files, observer, command.folder):
            self._reports.send(ImageDrawn(run_id=command.run_id, index=image.index, path=image.path))
        return Generated(run_id=command.run_id)

    def _choose_runtime(self, command: Train | Generate) -> Runtime:
        if isinstance(command, Generate):
            return generation_runtime(self._device, command.cpu_threads)
        if command.runtime is not None:
            return Runtime.model_validate(command.runtime)
        return choose_runtime(command.plan, self._device, command.model, command.cpu_threads)

    def _load(self, command: Train | Generate, runtime: Runtime) -> Base:
        key, model_id = (command.plan.model_sha256, runtime.precision), command.plan.model
        warm = key in self._warm
        self._warm.make_room(key, _predict_peak(command, runtime))
        self._reports.send(
            RuntimeChosen(
                run_id=command.run_id,
                runtime=runtime.model_dump(mode="json"),
                warm=warm,
                in_memory=tuple(dict.fromkeys([*self._warm.models, model_id])),
                warning=warn_of_emulation(runtime, self._device),
            )
        )
        family, folder = command.plan.family, command.model_folder
        return self._warm.open(key, model_id, lambda: load_base(family, folder, self._device, runtime.dtype))


def _predict_peak(command: Train | Generate, runtime: Runtime) -> int | None:
    """Bytes; None for a base whose memory was not traced, or a device without a table."""
    model = command.model
    if model.memory is None or runtime.device_type not in {"cpu", "cuda"}:
        return None
    kind: DeviceKind = "cuda" if runtime.device_type == "cuda" else "cpu"
    numerics = choose_numerics(kind, runtime.precision)
    if isinstance(command, Generate):
        return predict_generation(command.plan, model, kind, numerics)
    setting = Setting(numerics, runtime.gradient_checkpointing, runtime.samples_per_pass)
    return predict_peak(command.plan, model, kind, setting)


def _fail_for_memory(command: Train, runtime: Runtime, *, others_in_memory: bool) -> Failed:
    """The retry is in a new process, which holds no other base."""
    reduced = reduce_memory(runtime, command.plan)
    if others_in_memory:
        reduced = runtime, "The device ran out of memory: retrying without other bases in it."
    retry_runtime, detail = (None, "") if reduced is None else (reduced[0].model_dump(mode="json"), reduced[1])
    return Failed(
        run_id=command.run_id,
        reason=TerminationReason.OUT_OF_MEMORY,
        detail=detail,
        retry_runtime=retry_runtime,
    )


def lock_device(home: Path, device: str, slot: int) -> IO[str]:
    """Waits for the previous holder of the device: a killed trainer's lock ends with its process."""
    name = device.replace(":", "-") if device != "cpu" else f"cpu-{slot}"
    folder = home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / f"device-{name}.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (folder / f"trainer-{slot}.pid").write_text(f"{os.getpid()}\n")
    return lock


def die(run_id: str, error: Exception, reports: ReportPipe) -> NoReturn:
    """An unexpected error: the process's state is not trusted any more."""
    log.error("unforeseen", exc_info=error)
    reports.send(
        Failed(
            run_id=run_id,
            reason=TerminationReason.INFRASTRUCTURE,
            detail=f"{describe_unexpected(error)} in the trainer; the worker's log has its trace",
        )
    )
    os._exit(70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", required=True)
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    args = parser.parse_args()
    die_with_parent(args.parent)
    configure_logging("trainer")
    reports = ReportPipe(os.fdopen(os.dup(sys.stdout.fileno()), "wb"))
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output of libraries must not mix with reports
    device = torch.device(args.device)
    gc.freeze()  # collections skip the libraries' objects: saves 0.3 s each time that a network is dropped
    gc.enable()
    with lock_device(args.home, args.device, args.slot):
        commands = CommandReader(sys.stdin.buffer)
        trainer = Trainer(device, reports, commands)
        reports.send(Ready(device_name=name_device(device), memory_bytes=total_memory_bytes(device)))
        for command in commands.runs():
            try:
                reports.send(trainer.run(command))
            except Exception as error:
                die(command.run_id, error, reports)


if __name__ == "__main__":
    main()
