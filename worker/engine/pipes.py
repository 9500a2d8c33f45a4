"""The trainer's ends of the pipes: commands from the worker, and reports to it."""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from core.domain.artifacts import AdapterFormat
from core.domain.states import Phase
from worker.device.wire import (
    COMMANDS,
    AdapterKept,
    Alive,
    CheckpointSaved,
    DrawSamples,
    Generate,
    ImageReport,
    Message,
    Noticed,
    PhaseEntered,
    RequestedSamplesDrawn,
    SampleRequestFailed,
    SamplesDrawn,
    StepDone,
    Train,
    UnitDone,
    Validated,
)
from worker.engine.observer import Lend, SampleImage, SampleRequest, StepReport, Stop


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
        self._waiting: list[Train | Generate] = []
        self._changed = threading.Condition()
        self._stops: dict[str, Stop | None] = {}  # by run: those received and not yet ended
        self._requests: defaultdict[str, deque[SampleRequest]] = defaultdict(deque)  # by run
        self._is_closed = False
        threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def _read(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            command = COMMANDS.validate_json(line)
            if isinstance(command, (Train, Generate)):
                self._stops[command.run_id] = None
                with self._changed:
                    self._waiting.append(command)
                    self._changed.notify()
            elif command.run_id not in self._stops:
                pass  # the run has ended
            elif isinstance(command, DrawSamples):
                request = SampleRequest(command.request_id, command.prompts, command.seed)
                self._requests[command.run_id].append(request)
            else:
                self._stops[command.run_id] = Stop.SAVE if command.save else Stop.DROP
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def runs(self) -> Iterator[Train | Generate]:
        """Until the pipe is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                command = self._waiting.pop(0)
            yield command

    def find_generation(self, model_sha256: str) -> Generate | None:
        """The first that waits for this base."""
        with self._changed:
            waiting = (command for command in self._waiting if isinstance(command, Generate))
            return next((command for command in waiting if command.plan.model_sha256 == model_sha256), None)

    def take(self, run_id: str) -> None:
        """It waits no more."""
        with self._changed:
            self._waiting = [command for command in self._waiting if command.run_id != run_id]

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
        self.on_boundary: Callable[[Lend], None] = lambda _: None

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

    def between_steps(self, lend: Lend) -> None:
        self.on_boundary(lend)

    def should_stop(self) -> Stop | None:
        return self._commands.find_stop(self._run_id)


def _describe(images: list[SampleImage]) -> list[ImageReport]:
    return [ImageReport(prompt=row.prompt, seed=row.seed, path=row.path) for row in images]
