"""Adapters, as the API shows and receives them."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.deps import PLAIN
from app.errors import ErrorOut
from app.jobs.schemas import File, example
from core.db.tables import Adapter
from core.domain.adapter_import import MAX_IGNORED, AdapterSource, Conversion, IgnoredKey
from core.domain.adapter_merge import MAX_SOURCES, MAX_WEIGHT, LayerError, MakingMethod, MergeMethod
from core.domain.artifacts import ADAPTER_FORMATS, AdapterFormat
from core.domain.model import FAMILY_FACTS, Family
from core.domain.numbers import StrictFloat, StrictInt, StrictNumbers
from core.domain.proof import LoadProof
from core.domain.publication import LICENSE
from core.domain.spec import MAX_RANK, MAX_STEPS, AdapterType
from core.domain.states import AdapterStatus

MAX_TAGS = 20

_ID = "ad_01j9z3k8m4x7v2q5w6e8r9t0yc"
_URL = f"/adapters/{_ID}"
_FILE = {"sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "size": 1_313_096}
EXAMPLE: dict[str, Any] = {
    "id": _ID,
    "object": "adapter",
    "status": "ready",
    "source": "job",
    "name": "blip",
    "trigger": "blip",
    "description": "",
    "notes": "",
    "license": None,
    "tags": ["mascot"],
    "cover": None,
    "model": "tiny",
    "model_sha256": _FILE["sha256"],
    "family": next(iter(FAMILY_FACTS)),
    "type": "locon",
    "rank": 8,
    "job": "job_01j9z3k8m4x7v2q5w6e8r9t0ya",
    "files": {name: {"url": f"{_URL}/download?format={name}", **_FILE} for name in ADAPTER_FORMATS},
    "merge": None,
    "conversion": None,
    "ignored": [],
    "num_ignored": 0,
    "metrics": {"loss": 0.0713, "validation_loss": 0.0698, "retention": 0.97},
    "proofs": {},
    "error": None,
    "waiting_reason": None,
    "created_at": "2026-01-31T12:01:14Z",
    "urls": {"self": _URL, "download": f"{_URL}/download"},
}

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=PLAIN)]
AdapterId = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=PLAIN)]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50, pattern=PLAIN)]
Tags = Annotated[tuple[Tag, ...], Field(max_length=MAX_TAGS)]
Licence = Annotated[str, Field(pattern=LICENSE)]
Text = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00]*$")]


class AdapterImport(BaseModel):
    """The fields beside an imported file."""

    model_config = ConfigDict(extra="forbid")

    model: Line
    name: Line | None = None
    trigger: Line | None = None
    tags: Tags = ()


class SampleCover(StrictNumbers):
    """A sample image of the adapter's job."""

    model_config = ConfigDict(extra="forbid")

    step: StrictInt = Field(ge=0, le=MAX_STEPS, description="The step of the samples.")
    index: StrictInt = Field(0, ge=0, le=1000, description="The number of the image, from 0.")


class GenerationCover(StrictNumbers):
    """An image of a generation."""

    model_config = ConfigDict(extra="forbid")

    generation: AdapterId = Field(description="The generation's id, `gen_…`.")
    index: StrictInt = Field(0, ge=0, le=1000, description="The number of the image, from 0.")


class AdapterChange(BaseModel):
    """Changes the given fields only. `null` takes away the licence and the cover."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "Blip", "tags": ["mascot"]}]})

    name: Line | None = None
    description: Text | None = None
    notes: Text | None = Field(None, description="For yourself: they are neither published nor shown by links.")
    license: Licence | None = Field(None, description="The Hub's identifier of a licence, such as `openrail++`.")
    tags: Tags | None = None
    cover: SampleCover | GenerationCover | None = Field(
        None, description="An image of the job's samples or of a generation, of which a copy is kept."
    )

    def to_changes(self) -> dict[str, Any]:
        """Without a new cover, which is copied first."""
        changes = self.model_dump(mode="json", exclude_none=True, exclude={"cover"})
        taken_away = {
            name for name in ("license", "cover") if name in self.model_fields_set and not getattr(self, name)
        }
        return {**changes, **dict.fromkeys(taken_away)}


class WeightedAdapter(StrictNumbers):
    """An adapter in a stack. A negative weight subtracts its update."""

    model_config = ConfigDict(extra="forbid")

    id: AdapterId
    weight: Annotated[StrictFloat, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT, allow_inf_nan=False)] = Field(
        1.0, description="The factor of its update. Not 0."
    )


class AdapterMerge(StrictNumbers):
    """A stack of adapters that becomes one adapter. All are for the same base, and none is a DoRA."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "adapters": [{"id": _ID, "weight": 1.0}, {"id": f"{_ID[:-1]}d", "weight": 0.6}],
                    "method": "svd",
                    "rank": 16,
                    "name": "Blip in ink",
                    "tags": ["mascot"],
                }
            ]
        },
    )

    adapters: tuple[WeightedAdapter, ...] = Field(
        min_length=1, max_length=MAX_SOURCES, description="Each adapter once, with its weight."
    )
    method: MergeMethod = Field(
        "concat",
        description="`concat` is exact: the ranks add up, and so does the size of the file. `svd` is the best "
        "approximation of the given rank, and says its error.",
    )
    rank: StrictInt | None = Field(None, ge=1, le=MAX_RANK, description="For `svd`, and only then.")
    name: Line | None = Field(None, description="Default: the adapters' names.")
    trigger: Line | None = Field(None, description="Default: the adapters' triggers.")
    tags: Tags = ()


class AdapterResize(StrictNumbers):
    """A lower rank for an adapter."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"rank": 4}]})

    rank: StrictInt = Field(ge=1, le=MAX_RANK, description="Lower than the adapter's own.")
    name: Line | None = Field(None, description="Default: the adapter's name with the rank.")


class AdapterExtraction(StrictNumbers):
    """An adapter of what a fine-tuned base has learned."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"model": "sd15", "tuned": "my-finetune", "rank": 32}]}
    )

    model: AdapterId = Field(description="The base that the other was tuned from, and that the adapter will be for.")
    tuned: AdapterId = Field(description="The fine-tuned base: a registered model of the same family.")
    rank: StrictInt = Field(32, ge=1, le=MAX_RANK, description="The adapter's rank.")
    name: Line | None = Field(None, description="Default: the tuned base's id.")
    trigger: Line | None = Field(None, description="Words that the fine-tuning was done with.")
    tags: Tags = ()


class MergeSourceOut(BaseModel):
    """An adapter that a merge was made from, or the fine-tuned base of an extraction."""

    id: str
    name: str = Field(description="Its name at that time; it may be deleted since.")
    weight: float = Field(description="The factor of its update.")


class MergeErrorOut(BaseModel):
    """The Frobenius norm of the difference between the adapter's update, as stored, and the exact weighted sum, over
    that of the sum: 0 is exact, and rounding to half precision costs some 0.0003."""

    total: float = Field(description="Over all layers together.")
    layers: list[LayerError] | None = Field(description="For each layer, the worst first; null in lists of adapters.")


class MergeOut(BaseModel):
    """How the adapter was made from others."""

    method: MakingMethod = Field(
        description="`concat` or `svd`; a resized adapter has `svd` with one source. `extract`: from a fine-tuned base."
    )
    rank: int | None = Field(description="The rank that was asked of `svd`.")
    sources: list[MergeSourceOut] = Field(description="What it was made from. It does not need them any more.")
    error: MergeErrorOut | None = Field(description="Null until it is ready.")


class AdapterMetrics(BaseModel):
    """The training's measurements. Scores go from 0 to 1."""

    loss: float | None = None
    step: int | None = Field(None, description="The step that the adapter's weights are from.")
    num_steps: int | None = Field(None, description="The number of trained steps.")
    validation_loss: float | None = Field(None, description="On the held-out images; null if there are none.")
    base_validation_loss: float | None = Field(None, description="The same for the base model, without the adapter.")
    retention: float | None = Field(None, description="How much of its behaviour on neutral prompts the base keeps.")


class AdapterUrls(BaseModel):
    self: str
    download: str


class AdapterOut(BaseModel):
    """An adapter from a job, an imported one, or one merged from others. The latter two are `checking` until a worker
    has read and written the files, then `ready`, or `rejected` with the reason in ``error``.
    """

    model_config = example(EXAMPLE)

    id: str
    object: Literal["adapter"] = "adapter"
    status: AdapterStatus
    source: AdapterSource
    name: str
    trigger: str = Field(description="The phrase that invokes the concept in prompts; may be empty.")
    description: str
    notes: str = Field(description="Notes of its owner, which are not published.")
    license: str | None = Field(description="The Hub's identifier of its licence; null if none was given.")
    tags: list[str]
    cover: File | None = Field(description="The image that stands for it; null if none was chosen.")
    model: str = Field(description="The base model that it was trained on, or checked against.")
    model_sha256: str
    family: Family
    type: AdapterType | None = Field(description="Null while it is `checking`.")
    rank: int | None = Field(description="The highest rank of its layers.")
    job: str | None = Field(description="The job that trained it; deleting the job deletes the adapter.")
    merge: MergeOut | None = Field(None, description="How it was made from others; null if it was not.")
    conversion: Conversion | None = Field(None, description="An import's LoHa or LoKr layers, which became LoRA's.")
    files: dict[AdapterFormat, File]
    ignored: list[IgnoredKey] = Field(
        default_factory=list,
        description=f"Tensors of an imported file that were ignored, and why: at most the first {MAX_IGNORED}.",
    )
    num_ignored: int = Field(0, description="How many tensors of an imported file were ignored.")
    metrics: AdapterMetrics | None = Field(description="Null for imports and merges.")
    proofs: dict[AdapterFormat, LoadProof] = Field(description="Which tools load each file completely.")
    error: ErrorOut | None
    waiting_reason: str | None = Field(description="Why its check is deferred, through no fault of the file.")
    created_at: datetime
    urls: AdapterUrls

    @classmethod
    def of(cls, row: Adapter) -> Self:
        url = f"/adapters/{row.id}"
        shown = {name: getattr(row, name) for name in _AS_THEY_ARE}
        found: dict[str, Any] = {
            "model": row.model_id,
            "job": row.job_id,
            "files": {
                name: {**row.files[name], "url": f"{url}/download?format={name}"}
                for name in ADAPTER_FORMATS
                if name in row.files
            },
            "cover": {**row.cover, "url": f"{url}/cover.png"} if row.cover else None,
            "urls": {"self": url, "download": f"{url}/download"},
        }
        return cls.model_validate({**shown, **found})

    def without_layers(self) -> Self:
        """For lists: a merge's errors by layer are many."""
        if self.merge is None or self.merge.error is None:
            return self
        error = self.merge.error.model_copy(update={"layers": None})
        return self.model_copy(update={"merge": self.merge.model_copy(update={"error": error})})


_AS_THEY_ARE = (
    *("id", "status", "source", "name", "trigger", "description", "notes", "license", "tags"),
    *("model_sha256", "family", "type", "rank"),
    *("merge", "conversion", "ignored", "num_ignored", "metrics", "proofs", "error", "waiting_reason", "created_at"),
)
