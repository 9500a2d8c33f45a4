"""Generations, as the API shows and receives them."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from app.errors import ErrorOut
from app.jobs.schemas import example, refuse_nul
from core.db.tables import Generation
from core.domain.generation import GenerationPlan, GenerationSpec, GenerationStatus, StackedAdapter, name_sheet

_ID = "gen_01j9z3k8m4x7v2q5w6e8r9t0yd"
_ADAPTER = "ad_01j9z3k8m4x7v2q5w6e8r9t0yc"
_URL = f"/generations/{_ID}"
REQUEST_EXAMPLE = {
    "model": "tiny",
    "prompts": ["a large blip on blue"],
    "adapters": [{"id": _ADAPTER, "weight": 0.8}],
    "num_images": 2,
    "seed": 7,
}
EXAMPLE: dict[str, Any] = {
    "id": _ID,
    "object": "generation",
    "status": "succeeded",
    "model": "tiny",
    "prompts": ["a large blip on blue"],
    "negative_prompt": "",
    "adapters": [{"id": _ADAPTER, "job": None, "step": None, "name": "blip", "weight": 0.8}],
    "num_steps": 20,
    "guidance_scale": 5.0,
    "guidance_rescale": 0.7,
    "seed": 7,
    "num_images": 2,
    "width": 64,
    "height": 64,
    "num_drawn": 2,
    "num_total": 2,
    "images": [
        {
            "index": index,
            "prompt": "a large blip on blue",
            "seed": 7 + index,
            "url": f"{_URL}/images/{index}.png",
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "size": 8_311,
        }
        for index in range(2)
    ],
    "grid": None,
    "sheets": [],
    "error": None,
    "waiting_reason": None,
    "created_at": "2026-01-31T12:01:14Z",
    "ended_at": "2026-01-31T12:01:16Z",
    "urls": {"self": _URL},
}


class GenerationRequest(GenerationSpec):
    """What to draw. `{"model", "prompts"}` is enough; the rest comes from the base's card."""

    model_config = example(REQUEST_EXAMPLE)

    @model_validator(mode="before")
    @classmethod
    def _no_nul(cls, data: Any) -> Any:
        return refuse_nul(data)


class StackedOut(BaseModel):
    """An adapter of the stack; ``name`` is the one that it had then."""

    id: str | None = Field(description="The adapter's id; null for a job's step.")
    job: str | None = Field(None, description="The job whose step it is; null for an adapter by its id.")
    step: int | None = Field(None, description="The job's step; null for an adapter by its id.")
    name: str = Field(description="Its name when the generation was made.")
    weight: float = Field(description="1: as trained; 0: without it.")

    @classmethod
    def of(cls, adapter: StackedAdapter) -> Self:
        by_step = adapter.step is not None
        return cls(
            id=None if by_step else adapter.id,
            job=adapter.id if by_step else None,
            step=adapter.step,
            name=adapter.name,
            weight=adapter.weight,
        )


class GeneratedImage(BaseModel):
    """A PNG with its parameters, as A1111 writes them; the address needs the API key."""

    index: int = Field(description="Its place: prompt by prompt, `num_images` for each.")
    prompt: str = Field(description="Its prompt.")
    seed: int = Field(description="The seed of its noise.")
    url: str = Field(description="Its address.")
    sha256: str = Field(description="The file's hash.")
    size: int = Field(description="Bytes.")


class SheetOut(BaseModel):
    """The images of a prompt's grid on one labelled sheet."""

    prompt: int = Field(description="The prompt's number, from 0.")
    url: str = Field(description="Its address.")
    sha256: str = Field(description="The file's hash.")
    size: int = Field(description="Bytes.")


class GridOut(BaseModel):
    """The labels of a grid; the images of a prompt are its cells row by row."""

    columns: list[str] = Field(description="From left to right.")
    rows: list[str] = Field(description="From top to bottom; empty for a single row.")


class GenerationUrls(BaseModel):
    """Related paths."""

    self: str = Field(description="The generation.")


class GenerationOut(BaseModel):
    """Images that a base draws with adapters. Each is listed as soon as it is drawn."""

    model_config = example(EXAMPLE)

    id: str
    object: Literal["generation"] = "generation"
    status: GenerationStatus = Field(description="queued, running while a worker draws it, and then how it ended.")
    model: str = Field(description="The base's id.")
    prompts: list[str] = Field(description="What is drawn.")
    negative_prompt: str = Field(description="What guidance leads away from; empty for nothing.")
    adapters: list[StackedOut] = Field(description="The stack; may be empty.")
    num_steps: int = Field(description="Denoising steps.")
    guidance_scale: float = Field(description="Classifier-free guidance; 1 is none.")
    guidance_rescale: float = Field(description="arXiv 2305.08891, section 3.4; 0 is none.")
    seed: int = Field(description="The first image's of each prompt; the others' follow.")
    num_images: int = Field(description="Images for each prompt.")
    width: int = Field(description="Pixels.")
    height: int = Field(description="Pixels.")
    num_drawn: int = Field(description="Images that are drawn so far.")
    num_total: int = Field(description="Images of all prompts.")
    images: list[GeneratedImage] = Field(description="Those that are drawn, by their place.")
    grid: GridOut | None = Field(None, description="Null without a grid.")
    sheets: list[SheetOut] = Field(default_factory=list, description="Those of the prompts whose grid is complete.")
    error: ErrorOut | None
    waiting_reason: str | None = Field(description="Why it is deferred, through no fault of its own.")
    created_at: datetime
    ended_at: datetime | None = Field(description="Time of its end (UTC); null until then.")
    urls: GenerationUrls

    @classmethod
    def of(cls, row: Generation) -> Self:
        plan, url = GenerationPlan.model_validate(row.plan), f"/generations/{row.id}"
        drawn = sorted(int(name) for name in row.images if name.isdigit())
        images = [_show_image(plan, url, index, row.images[str(index)]) for index in drawn]
        return cls(
            id=row.id,
            status="running" if row.status == Generation.CHECKING and row.lease_until else row.status,
            **{name: getattr(plan, name) for name in _OF_PLAN},
            prompts=list(plan.prompts),
            adapters=[StackedOut.of(adapter) for adapter in plan.adapters],
            num_drawn=len(images),
            num_total=plan.total,
            images=images,
            grid=plan.grid and GridOut(columns=list(plan.grid.columns), rows=list(plan.grid.rows)),
            sheets=[
                _show_sheet(url, prompt, row.images[name])
                for prompt in range(len(plan.prompts))
                if (name := name_sheet(prompt)) in row.images
            ],
            error=row.error,
            waiting_reason=row.waiting_reason,
            created_at=row.created_at,
            ended_at=row.ended_at,
            urls=GenerationUrls(self=url),
        )


_OF_PLAN = (
    *("model", "negative_prompt", "num_steps", "guidance_scale", "guidance_rescale", "seed", "num_images"),
    *("width", "height"),
)


def _show_image(plan: GenerationPlan, url: str, index: int, image: dict[str, Any]) -> GeneratedImage:
    prompt, seed = plan.place(index)
    return GeneratedImage(
        index=index,
        prompt=prompt,
        seed=seed,
        url=f"{url}/images/{index}.png",
        sha256=image["sha256"],
        size=image["size"],
    )


def _show_sheet(url: str, prompt: int, sheet: dict[str, Any]) -> SheetOut:
    return SheetOut(prompt=prompt, url=f"{url}/sheets/{prompt}.png", sha256=sheet["sha256"], size=sheet["size"])
