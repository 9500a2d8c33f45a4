"""Jobs, as the API receives and shows them."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.deps import PLAIN
from app.errors import ErrorOut
from app.jobs import examples
from app.jobs.outline import Plan
from app.validation import escape
from core.db.tables import Job, JobCheckpoint, JobEvent, JobMetric, JobSample
from core.domain.advice import Advice
from core.domain.artifacts import AdapterFormat
from core.domain.concepts import MAX_CONCEPTS, ConceptSpec
from core.domain.errors import InvalidSpec
from core.domain.estimate import Estimate
from core.domain.outcome import summarize
from core.domain.plan import TrainPlan
from core.domain.proof import LoadProof
from core.domain.spec import TrainingSpec
from core.domain.states import JobStatus, Phase
from core.domain.waiting import Place

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=PLAIN)]


def example(value: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


_BOTH_LENGTHS: dict[str, Any] = {
    "required": ["steps", "epochs"],
    "properties": {"steps": {"type": "integer"}, "epochs": {"type": "integer"}},
}


class JobRequest(TrainingSpec):
    """The base model and the dataset; the rest is optional, over the preset."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.REQUEST], "not": _BOTH_LENGTHS})

    model: Name = Field(description="The id of a base model, such as `tiny`.")
    dataset: Name = Field(description="The id of a ready dataset.")
    datasets: tuple[ConceptSpec, ...] = Field(
        (), max_length=MAX_CONCEPTS, description="Further datasets: other concepts, or class images."
    )

    @model_validator(mode="before")
    @classmethod
    def _no_nul(cls, data: Any) -> Any:
        return refuse_nul(data)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        named = [self.dataset, *(concept.id for concept in self.datasets)]
        if len(set(named)) < len(named):
            raise ValueError("name each dataset once")
        return self

    def to_spec(self) -> TrainingSpec:
        return TrainingSpec.model_validate(
            self.model_dump(exclude={"model", "dataset", "datasets"}, exclude_unset=True)
        )


def refuse_nul(data: Any) -> Any:
    """The data. Raises InvalidSpec if a text in it has the character, which PostgreSQL cannot store."""
    if (pointer := find_nul(data)) is not None:
        message = "text must not contain the character NUL"
        raise InvalidSpec(f"{pointer or 'The body'}: {message}.", {pointer: [message]})
    return data


def find_nul(data: Any) -> str | None:
    """The first value that contains the character NUL, by its JSON pointer; for a name, the object that has it. Without
    recursion: JSON is read to a depth that exceeds Python's own recursion limit."""
    waiting: list[tuple[str, Any]] = [("", data)]
    while waiting:
        pointer, value = waiting.pop()
        if isinstance(value, str):
            if "\x00" in value:
                return pointer
        elif isinstance(value, dict):
            if any("\x00" in name for name in value):
                return pointer
            waiting += reversed([(f"{pointer}/{escape(name)}", inner) for name, inner in value.items()])
        elif isinstance(value, list):
            waiting += reversed([(f"{pointer}/{index}", inner) for index, inner in enumerate(value)])
    return None


class Progress(BaseModel):
    """``units_done`` of ``units_total`` count within a phase without steps: cached images, drawn samples."""

    step: int = 0
    num_steps: int = 0
    percent: float = 0.0
    seconds_per_step: float | None = None
    eta_seconds: float | None = Field(
        None,
        description="For a running job: the time for the remaining steps, null after the last. For a queued job: the "
        "time until its end, including your own jobs ahead of it; null if that was never measured.",
    )
    loss: float | None = None
    units_done: int | None = None
    units_total: int | None = None


class File(BaseModel):
    """``size`` in bytes; the address needs the API key."""

    url: str
    sha256: str
    size: int


class LastSamples(BaseModel):
    step: int
    url: str
    grid_url: str


class ResultMetrics(BaseModel):
    """The training's measurements. Scores go from 0 to 1; memory in bytes, times in seconds."""

    loss: float
    step: int | None = Field(None, description="The step that the adapter's weights are from.")
    num_steps: int | None = Field(None, description="The number of trained steps.")
    stopped_early: bool = False
    validation_loss: float | None = Field(None, description="On the held-out images; null if there are none.")
    base_validation_loss: float | None = Field(None, description="The same for the base model, without the adapter.")
    retention: float | None = Field(None, description="How much of its behaviour on neutral prompts the base keeps.")
    num_parameters: int
    seconds_per_sample: float | None = None
    seconds_per_image: float | None = None
    start_seconds: float | None = Field(None, description="Loading, caching, exporting: all but steps and samples.")
    peak_memory_bytes: int | None = None


class Result(BaseModel):
    adapter: dict[AdapterFormat, File]
    adapter_id: str | None = Field(None, description="The adapter's id, as in GET /adapters/{id}.")
    samples: LastSamples | None = Field(description="The samples of the adapter's step; null if there are none.")
    metrics: ResultMetrics
    proofs: dict[AdapterFormat, LoadProof] = Field(
        default_factory=dict, description="Which tools load each file completely, by their own naming rules."
    )
    note: str | None = Field(None, description="Which step was chosen, and why training ended.")
    warnings: list[str] = Field(
        default_factory=list, description="Warnings about the adapter, such as a low retention."
    )

    @classmethod
    def of(cls, job: Job) -> Self | None:
        if job.status != JobStatus.SUCCEEDED or job.result is None:
            return None
        return cls.model_validate({**summarize(job.id, job.result), "proofs": job.result.get("proofs", {})})


class Urls(BaseModel):
    self: str
    cancel: str
    events: str
    adapter: str


class JobOut(BaseModel):
    """A training job. ``phase`` is set while it runs, ``result`` when it has succeeded, ``error`` when it failed."""

    model_config = example(examples.JOB)

    id: str
    object: Literal["job"] = "job"
    status: JobStatus
    phase: Phase | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    queue_position: int | None = Field(
        None,
        description="A queued job's place among your own: 1 is next. Null if the job is not queued, and in the "
        "response that accepts it, which is the same for every repeat.",
    )
    model: str
    dataset: str
    spec: dict[str, Any] = Field(description="The spec as posted.")
    plan: Plan = Field(
        description="The spec with every open choice resolved; without the images, and without the prompts of the "
        "base's card for class images and scores."
    )
    progress: Progress
    estimate: Estimate
    attempt: int
    result: Result | None
    error: ErrorOut | None
    metadata: dict[str, str]
    urls: Urls

    @classmethod
    def of(cls, job: Job, place: Place | None = None) -> Self:
        """``place``: a queued job's place in the queue."""
        return cls(
            id=job.id,
            queue_position=place and place.number,
            status=JobStatus(job.status),
            phase=Phase(job.phase) if job.phase else None,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            model=job.model_id,
            dataset=job.dataset_id,
            spec=job.spec,
            plan=Plan.model_validate(job.outline),
            progress=_progress_of(job, place),
            estimate=Estimate.model_validate(job.estimate),
            attempt=job.attempt,
            result=Result.of(job),
            error=ErrorOut.model_validate(job.error) if job.error else None,
            metadata=job.spec.get("metadata", {}),
            urls=_urls_of(job.id),
        )

    def as_accepted(self) -> Self:
        """As it was first answered, whatever has happened since."""
        fresh = Progress(num_steps=self.progress.num_steps or self.plan.steps)
        changes = {"status": JobStatus.QUEUED, "progress": fresh, "attempt": 0}
        gone = dict.fromkeys(("phase", "queue_position", "started_at", "finished_at", "result", "error"))
        return self.model_copy(update={**changes, **gone})


def _progress_of(job: Job, place: Place | None) -> Progress:
    known = job.progress or {"num_steps": job.outline["steps"]}
    if JobStatus(job.status) is not JobStatus.QUEUED:
        return Progress.model_validate(known)
    eta = place.ends_in(job.estimate.get("seconds")) if place else None
    return Progress.model_validate({**known, "eta_seconds": eta})


def _urls_of(job_id: str) -> Urls:
    url = f"/jobs/{job_id}"
    return Urls(self=url, cancel=f"{url}/cancel", events=f"{url}/events", adapter=f"{url}/adapter")


class DryRun(BaseModel):
    """The plan and estimate of a job. Nothing was queued."""

    model_config = example(examples.DRY_RUN)

    object: Literal["plan"] = "plan"
    plan: Plan = Field(description="The spec with every open choice resolved, as a job shows it.")
    estimate: Estimate = Field(description="The estimated time and memory of the job.")
    warnings: tuple[Advice, ...] = Field(description="Possible mistakes in the spec, and what to change; may be empty.")

    @classmethod
    def of(cls, plan: TrainPlan, estimate: Estimate, advice: tuple[Advice, ...] = ()) -> Self:
        return cls(plan=Plan.of(plan), estimate=estimate, warnings=advice)


class EventOut(BaseModel):
    """``seq`` counts from 1 within a job, without gaps; it is the ``id`` in the event stream."""

    model_config = example(examples.EVENT)

    id: str
    object: Literal["event"] = "event"
    job: str
    seq: int
    type: str
    attempt: int
    data: dict[str, Any]
    created_at: datetime

    @classmethod
    def of(cls, event: JobEvent) -> Self:
        return cls(
            id=event.id,
            job=event.job_id,
            seq=event.seq,
            type=event.type,
            attempt=event.attempt,
            data=event.data,
            created_at=event.created_at,
        )


class MetricOut(BaseModel):
    """One step. It has a validation loss only if one was measured at that step."""

    model_config = example(examples.METRIC)

    step: int
    attempt: int
    loss: float
    validation_loss: float | None = None
    learning_rate: float
    seconds_per_step: float

    @classmethod
    def of(cls, metric: JobMetric) -> Self:
        return cls(
            step=metric.step,
            attempt=metric.attempt,
            loss=metric.loss,
            validation_loss=metric.validation_loss,
            learning_rate=metric.learning_rate,
            seconds_per_step=metric.seconds_per_step,
        )


class CheckpointOut(BaseModel):
    model_config = example(examples.CHECKPOINT)

    step: int
    attempt: int
    loss: float
    url: str
    sha256: str
    size: int
    created_at: datetime

    @classmethod
    def of(cls, checkpoint: JobCheckpoint) -> Self:
        return cls(
            step=checkpoint.step,
            attempt=checkpoint.attempt,
            loss=checkpoint.loss,
            url=f"/jobs/{checkpoint.job_id}/checkpoints/{checkpoint.step}/download",
            sha256=checkpoint.sha256,
            size=checkpoint.size,
            created_at=checkpoint.created_at,
        )


class SampleImage(File):
    prompt: str
    seed: int


class SampleOut(BaseModel):
    """One step's images, and all of them on one labelled grid. Step 0 is the base without the adapter."""

    model_config = example(examples.SAMPLE)

    step: int
    attempt: int
    images: list[SampleImage]
    grid: File
    created_at: datetime

    @classmethod
    def of(cls, sample: JobSample) -> Self:
        url = f"/jobs/{sample.job_id}/samples/{sample.step}"
        images = [
            SampleImage.model_validate({**image, "url": f"{url}/{index}.png"})
            for index, image in enumerate(sample.images)
        ]
        grid = File.model_validate({**sample.grid, "url": f"{url}/grid.png"})
        return cls(step=sample.step, attempt=sample.attempt, images=images, grid=grid, created_at=sample.created_at)
