"""Draws the images of a generation, some at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from core.domain.generation import GenerationPlan
from core.domain.memory import count_images_at_once
from core.domain.tokens import MAX_TOKEN_LENGTH, TOKENS_PER_CHUNK
from worker.engine.adapter_files.proof.adapters import read_adapter
from worker.engine.adapter_files.proof.layers import read_layers
from worker.engine.device import Runtime, open_accelerator
from worker.engine.families.protocol import Base, Conditioning, SamplingParams, TextLimits
from worker.engine.generation.parameters import describe
from worker.engine.generation.stack import Stack, stacked
from worker.engine.observer import Observer, heartbeat_or_stop, raise_if_stopped

LIMITS = TextLimits(MAX_TOKEN_LENGTH // TOKENS_PER_CHUNK)
"""Of prompts. A negative prompt is cut after one chunk, which stands beside each of a longer prompt's."""


@dataclass(frozen=True)
class Drawn:
    index: int
    path: Path


@torch.no_grad()
def generate(
    plan: GenerationPlan, runtime: Runtime, base: Base, files: Mapping[str, Path], observer: Observer, folder: Path
) -> Iterator[Drawn]:
    """``files``: sha256 -> an adapter's local file. Each image is a PNG in ``folder`` with its parameters.

    Raises Stopped when the observer asks for it, and BadInput for an adapter that does not fit the base.
    """
    open_accelerator(runtime)
    series = ImageSeries(plan, base, files, folder)
    while not series.is_over:
        for drawn in series.draw_next(runtime, partial(heartbeat_or_stop, observer)):
            observer.unit(drawn.index + 1, plan.total)
            yield drawn
        raise_if_stopped(observer)


class ImageSeries:
    """A generation's images, drawn in several passes; between two of them the base is as it was."""

    @torch.no_grad()
    def __init__(self, plan: GenerationPlan, base: Base, files: Mapping[str, Path], folder: Path) -> None:
        """Raises BadInput for an adapter that does not fit the base."""
        folder.mkdir(parents=True, exist_ok=True)
        self._plan, self._base, self._folder = plan, base, folder
        self._stack, self._num_drawn = _read_stack(plan, base, files), 0
        *self._prompts, self._negative = _encode(base, self._stack, [*plan.prompts, ""], LIMITS)
        if plan.negative_prompt:
            [self._negative] = _encode(base, self._stack, [plan.negative_prompt], TextLimits())

    @property
    def is_over(self) -> bool:
        return self._num_drawn == self._plan.total

    @torch.no_grad()
    def draw_next(self, runtime: Runtime, after_step: Callable[[], None]) -> list[Drawn]:
        """As many images as the memory is planned for. An exception of ``after_step`` ends it, and the same images
        come next."""
        plan, params = self._plan, _sampling_params(self._plan)
        end = min(self._num_drawn + count_images_at_once(plan), plan.total)
        indices = range(self._num_drawn, end)
        rows = [self._prompts[index // plan.num_images] for index in indices]
        seeds = [plan.place(index)[1] for index in indices]
        with stacked([self._base.denoiser], self._stack), runtime.autocast():
            latents_BCHW = self._base.sample(rows, self._negative, seeds, params, after_step)
        drawn = []
        for index, image in zip(indices, self._base.decode(latents_BCHW), strict=True):
            prompt, seed = plan.place(index)
            path = self._folder / f"{index:02d}.png"
            image.save(path, pnginfo=describe(prompt, plan.negative_prompt, params, seed, _describe_stack(plan)))
            drawn.append(Drawn(index, path))
        self._num_drawn = end
        return drawn


def _read_stack(plan: GenerationPlan, base: Base, files: Mapping[str, Path]) -> Stack:
    layers = read_layers(plan.family, base.folder) if plan.adapters else None
    return [(read_adapter(files[a.file.sha256], layers), a.weight) for a in plan.adapters if layers is not None]


def _encode(base: Base, stack: Stack, texts: Sequence[str], limits: TextLimits) -> list[Conditioning]:
    encoders = base.open_text_encoders(limits)
    with stacked(encoders.networks, stack):
        rows = [encoders.encode([text])[0] for text in texts]
    del encoders
    base.free()
    return rows


def _sampling_params(plan: GenerationPlan) -> SamplingParams:
    return SamplingParams(
        plan.num_steps, plan.guidance_scale, plan.guidance_rescale, plan.width, plan.height,
        plan.guidance_start, plan.guidance_stop,
    )  # fmt: skip


def _describe_stack(plan: GenerationPlan) -> dict[str, object]:
    """Names are users', and a comma would end the field."""
    stack = " + ".join(f"{a.name.replace(',', ' ')} ({a.id}) x {a.weight:g}" for a in plan.adapters)
    return {"Model": plan.model, **({"Adapters": stack} if stack else {})}
