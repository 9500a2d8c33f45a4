"""The second lane of a trainer: generations on the base of the training, a pass between every two of its steps."""

import logging
import time
from collections.abc import Callable
from typing import Protocol

from core.domain.states import TerminationReason
from worker.device.wire import Failed, Generate, Generated, ImageDrawn, Message, TrainingStopped
from worker.engine.device import Runtime, is_out_of_memory
from worker.engine.errors import BadInput, describe_unexpected
from worker.engine.families.protocol import Base
from worker.engine.generation.generate import Drawn, ImageSeries
from worker.engine.observer import Lend, Stop, Stopped

log = logging.getLogger("atelier.trainer")


class Commands(Protocol):
    def find_generation(self, model_sha256: str) -> Generate | None:
        """The first that waits for this base."""

    def take(self, run_id: str) -> None:
        """It waits no more."""

    def find_stop(self, run_id: str) -> Stop | None: ...

    def forget(self, run_id: str) -> None: ...


class GenerationLane:
    """``is_needed``: whether the training must go on, or end, at once; the generation then waits for the next step, or
    for the end of the training, as one does that does not ``fit`` into the memory beside it. After each pass the
    training has as much time for itself as the pass took."""

    def __init__(
        self,
        commands: Commands,
        send: Callable[[Message], None],
        base: Base,
        model_sha256: str,
        runtime: Runtime,
        is_needed: Callable[[], bool],
        alive: Callable[[], None],
        fits: Callable[[Generate], bool] = lambda _: True,
    ) -> None:
        self._commands, self._send, self._base, self._runtime = commands, send, base, runtime
        self._model_sha256, self._is_needed, self._alive = model_sha256, is_needed, alive
        self._fits, self._rests_until = fits, 0.0
        self._current: tuple[str, ImageSeries] | None = None

    def draw(self, lend: Lend) -> None:
        """One pass of the generation that waits, if one does."""
        command = self._commands.find_generation(self._model_sha256)
        if command is None or self._is_needed():
            return
        if self._commands.find_stop(command.run_id) is not None:
            self._end(command.run_id, TrainingStopped(run_id=command.run_id))
            return
        started = time.monotonic()
        if started < self._rests_until or not self._fits(command):
            return
        try:
            with lend():
                series = self._open(command)
                for image in series.draw_next(self._runtime, lambda: self._after_step(command.run_id)):
                    self._send(describe_drawn(command.run_id, image))
        except _Interrupted:
            pass
        except Exception as error:  # the training goes on, whatever it was
            self._end(command.run_id, _explain(command.run_id, error))
        else:
            if series.is_over:
                self._end(command.run_id, Generated(run_id=command.run_id))
            ended = time.monotonic()
            self._rests_until = ended + (ended - started)

    def _open(self, command: Generate) -> ImageSeries:
        if self._current is None or self._current[0] != command.run_id:
            self._current = None  # frees the stack of the last
            self._current = command.run_id, ImageSeries(command.plan, self._base, command.files, command.folder)
        return self._current[1]

    def _after_step(self, run_id: str) -> None:
        self._alive()
        if self._commands.find_stop(run_id) is not None:
            raise Stopped(run_id)
        if self._is_needed():
            raise _Interrupted

    def _end(self, run_id: str, report: Message) -> None:
        self._current = None
        self._commands.take(run_id)
        self._send(report)
        self._commands.forget(run_id)


def describe_drawn(run_id: str, drawn: Drawn) -> ImageDrawn:
    return ImageDrawn(run_id=run_id, index=drawn.index, path=drawn.path, is_sheet=drawn.is_sheet)


class _Interrupted(Exception):
    """The training needs the device."""


def _explain(run_id: str, error: Exception) -> Message:
    if isinstance(error, Stopped):
        return TrainingStopped(run_id=run_id)
    if isinstance(error, BadInput):
        return Failed(run_id=run_id, reason=TerminationReason.BAD_INPUT, detail=str(error))
    log.warning("the generation %s failed between two steps of a training", run_id, exc_info=error)
    if is_out_of_memory(error):
        detail = "The device has too little memory to draw images beside the training that it runs."
        return Failed(run_id=run_id, reason=TerminationReason.OUT_OF_MEMORY, detail=detail)
    return Failed(run_id=run_id, reason=TerminationReason.INFRASTRUCTURE, detail=describe_unexpected(error))
