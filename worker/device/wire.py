"""The messages between worker and trainer: one JSON object a line, over pipes. No pickle."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from core.domain.artifacts import AdapterFormat
from core.domain.generation import GenerationPlan
from core.domain.model import ModelInfo
from core.domain.outcome import Outcome
from core.domain.plan import TrainPlan
from core.domain.proof import LoadProof
from core.domain.states import Phase, TerminationReason


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def line(self) -> bytes:
        return self.model_dump_json().encode() + b"\n"


# --- to the trainer ---


class RunMessage(Message):
    """A message about the run ``run_id``. A trainer may have several runs at a time."""

    run_id: str


class Train(RunMessage):
    op: Literal["train"] = "train"
    plan: TrainPlan
    runtime: dict[str, Any] | None
    model_folder: Path
    model: ModelInfo
    cpu_threads: int
    files: dict[str, Path]
    workdir: Path
    cache_folder: Path
    shared_cache: Path
    resume_from: Path | None


class Generate(RunMessage):
    """``files``: sha256 -> an adapter's local file. The images go to ``folder``."""

    op: Literal["generate"] = "generate"
    plan: GenerationPlan
    model_folder: Path
    model: ModelInfo
    cpu_threads: int
    files: dict[str, Path]
    folder: Path


class StopTraining(RunMessage):
    op: Literal["stop"] = "stop"
    save: bool


class DrawSamples(RunMessage):
    """For a running training: draw these at its next step."""

    op: Literal["draw_samples"] = "draw_samples"
    request_id: str
    prompts: tuple[str, ...]
    seed: int


AnyCommand = Train | Generate | StopTraining | DrawSamples
Command = Annotated[AnyCommand, Field(discriminator="op")]
COMMANDS: TypeAdapter[AnyCommand] = TypeAdapter(Command)


# --- from the trainer ---


class Ready(Message):
    type: Literal["ready"] = "ready"
    device_name: str
    memory_bytes: int  # the device's total


class RuntimeChosen(RunMessage):
    type: Literal["runtime"] = "runtime"
    runtime: dict[str, Any]
    warm: bool
    in_memory: tuple[str, ...]  # the ids of the bases there, this run's last
    lends: bool  # whether generations may use a training's base between its steps
    warning: str | None


class PhaseEntered(RunMessage):
    type: Literal["phase"] = "phase"
    phase: Phase


class UnitDone(RunMessage):
    type: Literal["unit"] = "unit"
    done: int
    total: int


class Alive(RunMessage):
    """A part of an image is drawn. It is not counted, but shows that the trainer makes progress."""

    type: Literal["alive"] = "alive"


class Noticed(RunMessage):
    """A message for the job's owner."""

    type: Literal["notice"] = "notice"
    message: str


class StepDone(RunMessage):
    type: Literal["step"] = "step"
    step: int
    loss: float
    learning_rate: float
    seconds: float


class Validated(RunMessage):
    """The held-out loss; step 0 is the base's."""

    type: Literal["validated"] = "validated"
    step: int
    loss: float


class CheckpointSaved(RunMessage):
    type: Literal["checkpoint"] = "checkpoint"
    step: int
    loss: float
    path: Path


class ImageReport(Message):
    prompt: str
    seed: int
    path: Path


class SamplesDrawn(RunMessage):
    type: Literal["samples"] = "samples"
    step: int
    images: list[ImageReport]
    grid: Path


class AdapterKept(RunMessage):
    """The adapter of a step, beside the one that the training ends with."""

    type: Literal["adapter"] = "adapter"
    step: int
    files: dict[AdapterFormat, Path]


class RequestedSamplesDrawn(RunMessage):
    type: Literal["requested_samples"] = "requested_samples"
    request_id: str
    step: int
    images: list[ImageReport]


class SampleRequestFailed(RunMessage):
    """The training goes on."""

    type: Literal["sample_request_failed"] = "sample_request_failed"
    request_id: str
    detail: str


class ImageDrawn(RunMessage):
    """One of a generation, or the sheet of a prompt's grid."""

    type: Literal["image"] = "image"
    index: int
    path: Path
    is_sheet: bool


class Generated(RunMessage):
    """All of its images are reported."""

    type: Literal["generated"] = "generated"


class Finished(RunMessage):
    type: Literal["finished"] = "finished"
    files: dict[AdapterFormat, Path]
    outcome: Outcome
    proofs: dict[AdapterFormat, LoadProof]


class TrainingStopped(RunMessage):
    """Stopped as asked."""

    type: Literal["stopped"] = "stopped"


class Failed(RunMessage):
    type: Literal["failed"] = "failed"
    reason: TerminationReason
    detail: str
    retry_runtime: dict[str, Any] | None = None  # a runtime that may fit after this one did not


RunReport = (
    RuntimeChosen
    | PhaseEntered
    | UnitDone
    | Alive
    | Noticed
    | StepDone
    | Validated
    | CheckpointSaved
    | SamplesDrawn
    | AdapterKept
    | RequestedSamplesDrawn
    | SampleRequestFailed
    | ImageDrawn
    | Generated
    | Finished
    | TrainingStopped
    | Failed
)
AnyReport = Ready | RunReport
Report = Annotated[AnyReport, Field(discriminator="type")]
REPORTS: TypeAdapter[AnyReport] = TypeAdapter(Report)
FINAL_REPORTS = (Finished, Generated, TrainingStopped, Failed)
