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
import sys
from pathlib import Path
from typing import IO, NoReturn

from worker.answers import take_stdout
from worker.device.wire import (
    Failed,
    Finished,
    Generate,
    Generated,
    Message,
    Ready,
    RuntimeChosen,
    Train,
    TrainingStopped,
)
from worker.parent import die_with_parent

# before torch is imported: cuBLAS reads it once, and nothing may be downloaded while a job runs
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
gc.disable()  # imports make a million objects to be kept: looking through them meanwhile takes a second

import torch

from core.domain.memory import DeviceKind, Setting, choose_numerics, predict_drawing, predict_generation, predict_peak
from core.domain.states import TerminationReason
from core.logs import configure_logging
from worker.engine.adapter_files.proof.layers import list_layers
from worker.engine.adapter_files.proof.loaded_files import describe_modules, prove_files
from worker.engine.adapters import unchanged
from worker.engine.device import (
    Runtime,
    available_memory_bytes,
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
from worker.engine.lane import GenerationLane, describe_drawn
from worker.engine.observer import Stopped, raise_if_stopped
from worker.engine.pipes import CommandReader, PipeObserver, ReportPipe
from worker.engine.training.train import train
from worker.engine.warm import WarmBases, tidy

log = logging.getLogger("atelier.trainer")


class Trainer:
    """Trains and draws, one run after the other, on one device; and draws between the steps of a training."""

    def __init__(
        self, device: torch.device, reports: ReportPipe, commands: CommandReader, *, keeps_bases: bool = True
    ) -> None:
        self._device, self._reports, self._commands = device, reports, commands
        self._warm = WarmBases(device, keeps_others=keeps_bases)

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
        others = self._warm.holds_beside((command.plan.model_sha256, runtime.precision))
        self._warm.drop_all()
        if isinstance(command, Generate):
            return self.run(command) if others else _fail_to_draw(command)
        return _fail_for_memory(command, runtime, others_in_memory=others)

    def _train(self, command: Train, runtime: Runtime) -> Message:
        plan = command.plan
        observer = PipeObserver(self._reports, self._commands, command.run_id)
        base = self._load(command, runtime)
        if _lends(runtime, self._device):
            observer.on_boundary = self._open_lane(command, runtime, base, observer).draw
        with unchanged(base):
            result = train(
                plan, runtime, base, command.files, observer, command.workdir, command.resume_from,
                command.cache_folder, command.shared_cache,
            )  # fmt: skip
        networks = build_networks(plan.family, base.folder)
        layers = list_layers(plan.family, networks)
        proofs = prove_files(layers, networks, result.files, describe_modules(result.modules))
        return Finished(run_id=command.run_id, files=dict(result.files), outcome=result.outcome, proofs=proofs)

    def _open_lane(self, command: Train, runtime: Runtime, base: Base, observer: PipeObserver) -> GenerationLane:
        return GenerationLane(
            self._commands,
            self._reports.send,
            base,
            command.plan.model_sha256,
            runtime,
            is_needed=lambda: observer.should_stop() is not None,
            alive=observer.alive,
            fits=self._fits_beside,
        )

    def _fits_beside(self, command: Generate) -> bool:
        """Whether its activations fit into the memory that a training leaves; unknown counts as yes."""
        if command.model.memory is None or self._device.type not in {"cpu", "cuda"}:
            return True
        kind: DeviceKind = "cuda" if self._device.type == "cuda" else "cpu"
        numerics = choose_numerics(kind, generation_runtime(self._device, 1).precision)
        return predict_drawing(command.plan, command.model, numerics) <= available_memory_bytes(self._device)

    def _generate(self, command: Generate, runtime: Runtime) -> Message:
        observer = PipeObserver(self._reports, self._commands, command.run_id)
        raise_if_stopped(observer)
        base = self._load(command, runtime)
        for image in generate(command.plan, runtime, base, command.files, observer, command.folder):
            self._reports.send(describe_drawn(command.run_id, image))
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
                lends=_lends(runtime, self._device),
                warning=warn_of_emulation(runtime, self._device),
            )
        )
        family, folder = command.plan.family, command.model_folder
        return self._warm.open(key, model_id, lambda: load_base(family, folder, self._device, runtime.dtype))


def _lends(runtime: Runtime, device: torch.device) -> bool:
    """Whether generations may use the base of a training: in the precision that they have by themselves."""
    return runtime.precision == generation_runtime(device, runtime.cpu_threads).precision


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


def _fail_to_draw(command: Generate) -> Failed:
    return Failed(run_id=command.run_id, reason=TerminationReason.OUT_OF_MEMORY, detail="")


def _fail_for_memory(command: Train, runtime: Runtime, *, others_in_memory: bool) -> Failed:
    """The retry is in a new process; if other bases were to blame, in one that keeps none."""
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
    parser.add_argument("--one-base", action="store_true", help="keep no base beside the current one")
    args = parser.parse_args()
    die_with_parent(args.parent)
    configure_logging("trainer")
    reports = ReportPipe(take_stdout())
    device = torch.device(args.device)
    gc.freeze()  # collections skip the libraries' objects: saves 0.3 s each time that a network is dropped
    gc.enable()
    with lock_device(args.home, args.device, args.slot):
        commands = CommandReader(sys.stdin.buffer)
        trainer = Trainer(device, reports, commands, keeps_bases=not args.one_base)
        reports.send(Ready(device_name=name_device(device), memory_bytes=total_memory_bytes(device)))
        for command in commands.runs():
            try:
                reports.send(trainer.run(command))
            except Exception as error:
                die(command.run_id, error, reports)


if __name__ == "__main__":
    main()
