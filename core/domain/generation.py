"""A generation: images that a base draws with a stack of adapters. Its spec, and the plan that a worker follows."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from core.domain.artifacts import AdapterFormat, Artifact
from core.domain.base import Frozen
from core.domain.counts import counted
from core.domain.errors import InvalidSpec
from core.domain.grids import Cell, Grid, GridAxis, GridSpec
from core.domain.model import Family, ModelInfo
from core.domain.numbers import StrictFloat, StrictInt
from core.domain.phrases import Prompt
from core.domain.spec import MAX_STEPS as MAX_TRAINING_STEPS
from core.domain.spec_part import SpecPart

MAX_PROMPTS, MAX_ADAPTERS, MAX_STACKED, MAX_IMAGES = 16, 5, 16, 64
MAX_STEPS, MAX_SIDE, MAX_SEED = 150, 2048, 2**32 - MAX_IMAGES
GENERATION_FORMAT: AdapterFormat = "diffusers"
"""Of the adapters' files that a worker reads: with alpha = rank, so that nothing is lost."""

GenerationStatus = Literal["queued", "running", "succeeded", "failed", "canceled"]


def name_sheet(prompt: int) -> str:
    """A sheet's key among the images of a generation, whose keys are their indices."""
    return f"sheet-{prompt}"


class AdapterWeight(SpecPart):
    """An adapter of the stack, by its id or by its job and step, and how strongly it acts."""

    id: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(None, description="The adapter's id.")
    job: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        None, description="Instead of `id`: the job whose `step` it is; the job may still be running."
    )
    step: StrictInt | None = Field(None, ge=1, le=MAX_TRAINING_STEPS, description="A step that the job has kept.")
    weight: StrictFloat = Field(1.0, ge=-4, le=4, allow_inf_nan=False, description="1: as trained; 0: without it.")

    @model_validator(mode="after")
    def _one_adapter(self) -> Self:
        if (self.id is None) == (self.job is None) or (self.job is None) != (self.step is None):
            raise ValueError("name an adapter by its id, or by its job and step")
        return self


class GenerationSpec(SpecPart):
    """The images are drawn prompt by prompt, ``num_images`` for each; the n-th of each prompt has the seed plus n."""

    model: str = Field(min_length=1, max_length=100, description="The base's id.")
    prompts: tuple[Prompt, ...] = Field(min_length=1, max_length=MAX_PROMPTS, description="What to draw.")
    negative_prompt: str = Field("", max_length=1000, description="What guidance leads away from.")
    adapters: tuple[AdapterWeight, ...] = Field((), max_length=MAX_ADAPTERS, description="The stack; may be empty.")
    num_steps: Annotated[StrictInt, Field(ge=1, le=MAX_STEPS)] | None = Field(
        None, description="Denoising steps; by default the base's."
    )
    guidance_scale: Annotated[StrictFloat, Field(ge=1, le=30, allow_inf_nan=False)] | None = Field(
        None, description="By default the base's."
    )
    guidance_rescale: Annotated[StrictFloat, Field(ge=0, le=1, allow_inf_nan=False)] | None = Field(
        None, description="arXiv 2305.08891, section 3.4; by default the base's."
    )
    seed: StrictInt = Field(0, ge=0, le=MAX_SEED, description="The same seed starts from the same noise.")
    num_images: StrictInt = Field(1, ge=1, le=16, description="Images for each prompt.")
    width: StrictInt | None = Field(None, ge=16, le=MAX_SIDE, description="Pixels; by default the base's resolution.")
    height: StrictInt | None = Field(None, ge=16, le=MAX_SIDE, description="Pixels; by default the base's resolution.")
    grid: GridSpec | None = Field(None, description="Varies two settings against each other; without `num_images`.")


class StackedAdapter(Frozen):
    """``file``: its diffusers format in storage. ``id`` is the adapter's, or the job's whose ``step`` it is."""

    id: str
    step: int | None = None
    name: str
    weight: float
    file: Artifact


class GenerationPlan(Frozen):
    """Every default turned into a value."""

    model: str
    model_sha256: str
    family: Family
    prompts: tuple[str, ...]
    negative_prompt: str
    adapters: tuple[StackedAdapter, ...]
    num_steps: int
    guidance_scale: float
    guidance_rescale: float
    guidance_start: float
    guidance_stop: float
    seed: int
    num_images: int
    width: int
    height: int
    grid: Grid | None = None

    @property
    def per_prompt(self) -> int:
        """Images of each prompt."""
        return self.num_images if self.grid is None else len(self.grid.cells)

    @property
    def total(self) -> int:
        return len(self.prompts) * self.per_prompt

    def place(self, index: int) -> tuple[str, int]:
        """The prompt and the seed of an image."""
        prompt, number = divmod(index, self.per_prompt)
        return self.prompts[prompt], self.seed + number if self.grid is None else self.grid.cells[number].seed

    def cell_of(self, index: int) -> Cell:
        """An image's settings."""
        if self.grid is not None:
            return self.grid.cells[index % self.per_prompt]
        weights = tuple(adapter.weight for adapter in self.adapters)
        return Cell(
            weights=weights,
            seed=self.place(index)[1],
            guidance_scale=self.guidance_scale,
            num_steps=self.num_steps,
        )


def list_adapters(spec: GenerationSpec) -> list[AdapterWeight]:
    """Every adapter that some image needs: those of ``adapters`` first, each as often as it stands there. Raises
    InvalidSpec for a grid that cannot be."""
    listed = list(spec.adapters)
    for cell in _expand(spec):
        known = [_identify(one) for one in listed]
        listed += [one for one in cell.adapters if _identify(one) not in known]
    if len(listed) > MAX_STACKED:
        raise InvalidSpec.of({"/grid": f"needs {len(listed)} adapters; the limit is {MAX_STACKED}"})
    return listed


def _identify(adapter: AdapterWeight) -> tuple[str | None, str | None, int | None]:
    return adapter.id, adapter.job, adapter.step


def _expand(spec: GenerationSpec) -> list[GenerationSpec]:
    """One for each cell, row by row; none without a grid."""
    if spec.grid is None:
        return []
    rows = [spec] if spec.grid.y is None else [_vary(spec, spec.grid.y, "y", value) for value in spec.grid.y.values]
    return [_vary(row, spec.grid.x, "x", value) for row in rows for value in spec.grid.x.values]


def _vary(spec: GenerationSpec, axis: GridAxis, name: str, value: float | str) -> GenerationSpec:
    changed = spec.model_dump(exclude={"grid"}, exclude_none=True)
    changed["adapters"] = [*changed["adapters"]]
    if axis.field not in ("weight", "adapter", "step"):
        changed[axis.field] = value
    elif axis.entry >= len(spec.adapters):
        listed = f"there {'is' if len(spec.adapters) == 1 else 'are'} {len(spec.adapters) or 'none'}"
        raise _refuse_grid(f"/grid/{name}/entry", f"names adapter {axis.entry} of `adapters`, where {listed}")
    elif axis.field == "adapter":
        weight = changed["adapters"][axis.entry]["weight"]
        changed["adapters"][axis.entry] = {"id": value, "weight": weight}
    else:
        changed["adapters"][axis.entry][axis.field] = value
    try:
        return GenerationSpec.model_validate(changed)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise _refuse_grid(f"/grid/{name}/values", f"{value!r} is not possible for {axis.field}: {reason}") from None


def _refuse_grid(pointer: str, reason: str) -> InvalidSpec:
    return InvalidSpec.of({pointer: reason})


def _resolve_grid(spec: GenerationSpec, model: ModelInfo, adapters: Sequence[StackedAdapter]) -> Grid | None:
    """``adapters``: those of ``list_adapters``, in its order."""
    if spec.grid is None:
        return None
    if spec.num_images != 1:
        raise _refuse_grid("/num_images", "must be 1 with a grid: vary the seed for several images of a cell")
    names = [_identify(one) for one in list_adapters(spec)]
    cells = []
    for one in _expand(spec):
        weights: list[float | None] = [None] * len(names)
        for adapter in one.adapters:
            place = names.index(_identify(adapter))
            weights[place] = (weights[place] or 0.0) + adapter.weight
        cells.append(
            Cell(
                weights=tuple(weights),
                seed=one.seed,
                guidance_scale=_or(one.guidance_scale, model.defaults.sample_guidance_scale),
                num_steps=one.num_steps or model.defaults.sample_num_steps,
            )
        )
    by_id = {adapter.id: adapter.name for adapter in adapters}
    y = spec.grid.y
    return Grid(
        columns=tuple(_label(spec.grid.x, value, by_id) for value in spec.grid.x.values),
        rows=() if y is None else tuple(_label(y, value, by_id) for value in y.values),
        cells=tuple(cells),
    )


def _label(axis: GridAxis, value: float | str, names: Mapping[str, str]) -> str:
    if axis.field == "adapter":
        return names.get(str(value), str(value))
    return f"{axis.field.replace('_', ' ')} {value}"


def resolve_generation(spec: GenerationSpec, model: ModelInfo, adapters: Sequence[StackedAdapter]) -> GenerationPlan:
    """``adapters``: those of ``list_adapters``, in its order. Raises InvalidSpec."""
    defaults = model.defaults
    plan = GenerationPlan(
        model=model.id,
        model_sha256=model.sha256,
        family=model.family,
        prompts=spec.prompts,
        negative_prompt=spec.negative_prompt.strip(),
        adapters=tuple(adapters),
        num_steps=spec.num_steps or defaults.sample_num_steps,
        guidance_scale=_or(spec.guidance_scale, defaults.sample_guidance_scale),
        guidance_rescale=_or(spec.guidance_rescale, defaults.sample_guidance_rescale),
        guidance_start=defaults.sample_guidance_start,
        guidance_stop=defaults.sample_guidance_stop,
        seed=spec.seed,
        num_images=spec.num_images,
        width=spec.width or model.resolution,
        height=spec.height or model.resolution,
        grid=_resolve_grid(spec, model, adapters),
    )
    _refuse(plan, model)
    return plan


def _or(given: float | None, default: float) -> float:
    return default if given is None else given


def _refuse(plan: GenerationPlan, model: ModelInfo) -> None:
    errors: dict[str, str] = {}
    step = model.resolution_step
    for field, pixels in (("/width", plan.width), ("/height", plan.height)):
        if pixels % step:
            errors[field] = f"must be a multiple of {step} on {model.id}"
        elif pixels > 2 * model.resolution:
            errors[field] = f"must be at most {2 * model.resolution} on {model.id}, twice its resolution"
    if plan.total > MAX_IMAGES:
        errors["/num_images" if plan.grid is None else "/grid"] = (
            f"{counted(len(plan.prompts), 'prompt')} of {counted(plan.per_prompt, 'image')} are {plan.total}; the "
            f"limit is {MAX_IMAGES}"
        )
    if errors:
        raise InvalidSpec.of(errors)
