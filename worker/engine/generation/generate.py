"""Draws the images of a generation, some at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path

import torch

from core.domain.generation import GenerationPlan, StackedAdapter
from core.domain.grids import Cell
from core.domain.memory import count_images_at_once
from core.domain.tokens import MAX_TOKEN_LENGTH, TOKENS_PER_CHUNK
from worker.engine.adapter_files.proof.adapters import AdapterModule, read_adapter
from worker.engine.adapter_files.proof.layers import read_layers
from worker.engine.device import Runtime, open_accelerator
from worker.engine.families.protocol import Base, Conditioning, SamplingParams, TextLimits
from worker.engine.generation.parameters import describe
from worker.engine.generation.sheets import draw_sheet
from worker.engine.generation.stack import Stack, stacked
from worker.engine.observer import Observer, heartbeat_or_stop, raise_if_stopped

LIMITS = TextLimits(MAX_TOKEN_LENGTH // TOKENS_PER_CHUNK)
"""Of prompts. A negative prompt is cut after one chunk, which stands beside each of a longer prompt's."""


Weights = tuple[float | None, ...]
"""Of the plan's adapters; None for one that is not in the stack."""


@dataclass(frozen=True)
class Drawn:
    """An image, or a prompt's sheet if ``is_sheet``."""

    index: int
    path: Path
    is_sheet: bool = False


@torch.no_grad()
def generate(
    plan: GenerationPlan, runtime: Runtime, base: Base, files: Mapping[str, Path], observer: Observer, folder: Path
) -> Iterator[Drawn]:
    """``files``: sha256 -> an adapter's local file. Each image is a PNG in ``folder`` with its parameters; a grid's
    sheets follow.

    Raises Stopped when the observer asks for it, and BadInput for an adapter that does not fit the base.
    """
    open_accelerator(runtime)
    series = ImageSeries(plan, base, files, folder)
    while not series.is_over:
        for drawn in series.draw_next(runtime, partial(heartbeat_or_stop, observer)):
            if not drawn.is_sheet:
                observer.unit(drawn.index + 1, plan.total)
            yield drawn
        raise_if_stopped(observer)


class ImageSeries:
    """A generation's images, drawn in several passes; between two of them the base is as it was."""

    def __init__(self, plan: GenerationPlan, base: Base, files: Mapping[str, Path], folder: Path) -> None:
        """Raises BadInput for an adapter that does not fit the base."""
        folder.mkdir(parents=True, exist_ok=True)
        self._plan, self._base, self._folder = plan, base, folder
        self._adapters, self._num_drawn = _read_adapters(plan, base, files), 0
        self._texts: tuple[Weights, list[Conditioning], Conditioning] | None = None

    @property
    def is_over(self) -> bool:
        return self._num_drawn == self._plan.total

    @torch.no_grad()
    def draw_next(self, runtime: Runtime, after_step: Callable[[], None]) -> list[Drawn]:
        """As many images with the same settings as the memory is planned for, and the sheet that they complete. An
        exception of ``after_step`` ends it, and the same images come next."""
        plan, indices = self._plan, self._next_indices()
        cell = plan.cell_of(indices[0])
        stack = _weigh(self._adapters, cell.weights)
        prompts, negative = self._encode(cell.weights, stack)
        after_step()
        params = _sampling_params(plan, cell)
        rows = [prompts[index // plan.per_prompt] for index in indices]
        seeds = [plan.place(index)[1] for index in indices]
        with stacked([self._base.denoiser], stack), runtime.autocast():
            latents_BCHW = self._base.sample(rows, negative, seeds, params, after_step)
        drawn = []
        for index, image in zip(indices, self._base.decode(latents_BCHW), strict=True):
            prompt, seed = plan.place(index)
            used = _describe_stack(plan, cell.weights)
            image.save(self._path(index), pnginfo=describe(prompt, plan.negative_prompt, params, seed, used))
            drawn.append(Drawn(index, self._path(index)))
        self._num_drawn = indices[-1] + 1
        return [*drawn, *self._draw_sheet()]

    def _next_indices(self) -> list[int]:
        """Of one prompt if there is a grid, so that its sheet is drawn as soon as it can be."""
        plan, first = self._plan, self._num_drawn
        end = min(first + count_images_at_once(plan), plan.total)
        if plan.grid is not None:
            end = min(end, (first // plan.per_prompt + 1) * plan.per_prompt)
        settings = plan.cell_of(first).model_copy(update={"seed": 0})
        same = takewhile(
            lambda index: plan.cell_of(index).model_copy(update={"seed": 0}) == settings, range(first, end)
        )
        return list(same)

    def _encode(self, weights: Weights, stack: Stack) -> tuple[list[Conditioning], Conditioning]:
        """The prompts and the negative prompt: adapters may change the text encoders."""
        if self._texts is None or self._texts[0] != weights:
            *prompts, negative = _encode(self._base, stack, [*self._plan.prompts, ""], LIMITS)
            if self._plan.negative_prompt:
                [negative] = _encode(self._base, stack, [self._plan.negative_prompt], TextLimits())
            self._texts = weights, prompts, negative
        return self._texts[1], self._texts[2]

    def _draw_sheet(self) -> list[Drawn]:
        plan, done = self._plan, self._num_drawn
        if plan.grid is None or done % plan.per_prompt:
            return []
        prompt, path = done // plan.per_prompt - 1, self._folder / f"sheet-{done // plan.per_prompt - 1:02d}.png"
        draw_sheet([self._path(index) for index in range(done - plan.per_prompt, done)], plan.grid, path)
        return [Drawn(prompt, path, is_sheet=True)]

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:02d}.png"


def _read_adapters(plan: GenerationPlan, base: Base, files: Mapping[str, Path]) -> list[Sequence[AdapterModule]]:
    layers = read_layers(plan.family, base.folder) if plan.adapters else None
    return [read_adapter(files[adapter.file.sha256], layers) for adapter in plan.adapters if layers is not None]


def _weigh(adapters: Sequence[Sequence[AdapterModule]], weights: Weights) -> Stack:
    pairs = zip(adapters, weights, strict=True)
    return [(modules, weight) for modules, weight in pairs if weight is not None]


def _encode(base: Base, stack: Stack, texts: Sequence[str], limits: TextLimits) -> list[Conditioning]:
    encoders = base.open_text_encoders(limits)
    with stacked(encoders.networks, stack):
        rows = [encoders.encode([text])[0] for text in texts]
    del encoders
    base.free()
    return rows


def _sampling_params(plan: GenerationPlan, cell: Cell) -> SamplingParams:
    return SamplingParams(
        cell.num_steps, cell.guidance_scale, plan.guidance_rescale, plan.width, plan.height,
        plan.guidance_start, plan.guidance_stop,
    )  # fmt: skip


def _describe_stack(plan: GenerationPlan, weights: Weights) -> dict[str, object]:
    """Names are users', and a comma would end the field."""
    used = [(a, weight) for a, weight in zip(plan.adapters, weights, strict=True) if weight is not None]
    stack = " + ".join(f"{a.name.replace(',', ' ')} ({_identify(a)}) x {weight:g}" for a, weight in used)
    return {"Model": plan.model, **({"Adapters": stack} if stack else {})}


def _identify(adapter: StackedAdapter) -> str:
    """``ad_…``, or ``job_…@200`` for a job's step."""
    return adapter.id if adapter.step is None else f"{adapter.id}@{adapter.step}"
