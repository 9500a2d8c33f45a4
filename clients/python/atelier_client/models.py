"""The service's answers as frozen objects. They keep unknown fields, so an older client can read a newer service."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from atelier_client.answers import Answer as Answer
from atelier_client.answers import Page as Page
from atelier_client.bases import Calibration, MemoryNeed

AdapterFormat = Literal["kohya", "diffusers"]
DatasetLayout = Literal["kohya", "imagefolder"]
TERMINAL_STATUSES = frozenset({"succeeded", "failed", "canceled"})
FINAL_EVENTS = frozenset({"job.succeeded", "job.failed", "job.canceled"})


class LeftOut(Answer):
    file: str
    reason: str


class ReportWarning(Answer):
    code: str
    message: str
    files: tuple[str, ...] = ()


class FileCounts(Answer):
    """What became of the files of a dataset; ``received`` is the sum of the others."""

    received: int = 0
    images: int = 0
    captions: int = 0
    masks: int = 0
    left_out: int = 0
    litter: int = 0
    unexamined: int = 0


class Report(Answer):
    """What became of every file of a dataset."""

    num_files: int = 0
    num_images: int = 0
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[ReportWarning, ...] = ()
    notes: tuple[str, ...] = ()
    files: FileCounts | None = None


class ErrorInfo(Answer):
    """Why a job failed, or a dataset or an adapter was rejected."""

    type: str = "about:blank"
    title: str = ""
    detail: str = ""


class Dataset(Answer):
    id: str
    status: str
    name: str | None = None
    created_at: datetime
    num_files: int = 0
    num_sources: int | None = None
    num_images: int | None = None
    files_sha256: str | None = None
    manifest_sha256: str | None = None
    parent: str | None = None
    report: Report | None = None
    error: ErrorInfo | None = None

    def __str__(self) -> str:
        """One line with the dataset's state and size."""
        images = "" if self.num_images is None else f", {self.num_images} image{'' if self.num_images == 1 else 's'}"
        return f"{self.id} {self.status}{images}"

    waiting_reason: str | None = None


class Model(Answer):
    """A field that is null is not known yet."""

    id: str
    family: str | None = None
    resolution: int | None = None
    status: str
    num_parameters: int | None = None
    sha256: str | None = None
    file_sha256: str | None = None
    description: str = ""
    example_prompts: tuple[str, ...] = ()
    calibration: Calibration | None = None
    memory: tuple[MemoryNeed, ...] | None = None
    error: ErrorInfo | None = None
    created_at: datetime | None = None


class Conversion(Answer):
    """An import's LoHa or LoKr layers, which became LoRA's. ``error`` is relative to their updates."""

    kind: str
    num_layers: int
    rank: int
    error: float


class IgnoredKey(Answer):
    """A tensor of an imported file that the adapter leaves out."""

    key: str
    reason: str


class MergeSource(Answer):
    """An adapter that another was made from. It may be deleted since."""

    id: str
    name: str = ""
    weight: float


class LayerError(Answer):
    layer: str
    error: float


class MergeError(Answer):
    """Relative to the exact weighted sum. ``layers`` is null in lists."""

    total: float
    layers: tuple[LayerError, ...] | None = None


class Merge(Answer):
    """How an adapter was made from others. ``error`` is null until it is ready."""

    method: str
    rank: int | None = None
    sources: tuple[MergeSource, ...] = ()
    error: MergeError | None = None


class Adapter(Answer):
    """``type`` and ``rank`` are null while it is ``checking``; ``job`` is null for imports and merges, and ``merge``
    for all others."""

    id: str
    status: str
    source: str
    name: str
    trigger: str = ""
    description: str = ""
    notes: str = ""
    license: str | None = None
    tags: tuple[str, ...] = ()
    cover: dict[str, Any] | None = None
    model: str
    family: str | None = None
    type: str | None = None
    rank: int | None = None
    job: str | None = None
    merge: Merge | None = None
    conversion: Conversion | None = None
    files: dict[str, Any] = Field(default_factory=dict)
    ignored: tuple[IgnoredKey, ...] = ()
    num_ignored: int = 0
    metrics: dict[str, Any] | None = None
    proofs: dict[str, Any] = Field(default_factory=dict)
    error: ErrorInfo | None = None
    waiting_reason: str | None = None
    created_at: datetime


class Progress(Answer):
    """``loss`` is the latest step's; times are in seconds. Units count the work of a phase without steps, such as the
    images to be cached."""

    step: int = 0
    num_steps: int = 0
    percent: float = 0.0
    seconds_per_step: float | None = None
    eta_seconds: float | None = None
    loss: float | None = None
    units_done: int | None = None
    units_total: int | None = None


class Estimate(Answer):
    steps: int
    seconds: float | None = None
    peak_memory_bytes: int | None = None
    adapter_bytes: int | None = None
    basis: str = ""


class Advice(Answer):
    """A warning about a job before it is queued. ``files``: the pictures that it is about, the worst first."""

    code: str
    message: str
    field: str | None = None
    files: tuple[str, ...] = ()


class Plan(Answer):
    """The answer to a dry run."""

    plan: dict[str, Any]
    estimate: Estimate
    warnings: tuple[Advice, ...] = ()


class Job(Answer):
    id: str
    status: str
    model: str
    dataset: str
    created_at: datetime
    phase: str | None = None
    queue_position: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempt: int = 0
    spec: dict[str, Any] = Field(default_factory=dict)
    plan: dict[str, Any] = Field(default_factory=dict)
    progress: Progress | None = None
    estimate: Estimate | None = None
    result: dict[str, Any] | None = None
    error: ErrorInfo | None = None

    def __str__(self) -> str:
        """One line with the job's phase and step."""
        steps = f", step {self.progress.step} of {self.progress.num_steps}" if self.progress else ""
        return f"{self.id} {self.phase or self.status}{steps}"

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL_STATUSES

    @property
    def name(self) -> str:
        return str(self.spec.get("name") or self.spec.get("trigger") or self.plan.get("name") or self.id)


class JobEvent(Answer):
    """A stream can be resumed after an event's ``id``."""

    id: str
    type: str
    created_at: datetime
    job: str | None = None
    attempt: int = 0
    data: dict[str, Any] = Field(default_factory=dict)

    def __str__(self) -> str:
        simple = {name: value for name, value in self.data.items() if isinstance(value, str | int | float)}
        return f"{self.type} {', '.join(f'{name} {value}' for name, value in simple.items())}".rstrip()

    @property
    def is_final(self) -> bool:
        return self.type in FINAL_EVENTS


class Attempt(Answer):
    """One attempt to deliver a webhook. ``error`` says why the receiver did not answer."""

    at: datetime
    duration_seconds: float = 0.0
    status_code: int | None = None
    error: str | None = None
    excerpt: str = ""


class Delivery(Answer):
    """The webhook for one event of a job; ``id`` is its ``webhook-id`` header."""

    id: str
    type: str
    seq: int
    status: str
    attempts: tuple[Attempt, ...] = ()
    next_attempt_at: datetime | None = None
    delivered_at: datetime | None = None


class Key(Answer):
    """An API key without its secret; ``prefix`` is the start of the secret."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...] = ()
    tenant: str | None = None
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None


class NewKey(Key):
    """A new API key. The service does not show its ``secret`` again."""

    secret: str = Field(repr=False)


class Tenant(Answer):
    id: str
    name: str
    created_at: datetime


class AuditEntry(Answer):
    """``key`` did ``action`` to ``target``."""

    id: str
    action: str
    target: str
    key: str
    address: str = ""
    created_at: datetime


class LoginLink(Answer):
    """``url`` opens the dashboard once, within ``expires_in_seconds``."""

    url: str = Field(repr=False)
    token: str = Field(repr=False)
    expires_in_seconds: float


class Worker(Answer):
    """A worker that trains. ``memory_bytes`` is the total memory of its device."""

    id: str
    device: str
    device_name: str = ""
    memory_bytes: int | None = None
    job: str | None = None
    warm_models: tuple[str, ...] = ()


class SampleImage(Answer):
    prompt: str
    sha256: str | None = None


class SampleSet(Answer):
    """One step's pictures."""

    step: int
    images: tuple[SampleImage, ...] = ()


class Metric(Answer):
    step: int
    loss: float
    learning_rate: float | None = None
    seconds_per_step: float | None = None
