"""Sample images during a run, and the labelled grid that compares the adapter with the base."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from core.domain.memory import SAMPLES_AT_ONCE
from core.domain.plan import TrainPlan
from worker.engine.families.protocol import Base, Conditioning, SamplingParams, SizeConditioning
from worker.engine.generation.parameters import describe
from worker.engine.observer import Observer, SampleImage, SampleRequest, heartbeat_or_stop, raise_if_stopped

MIN_TILE, MARGIN, LABEL = 192, 12, 22

INK, PAPER, FAINT = (28, 28, 30), (255, 255, 255), (110, 110, 116)


class Gallery:
    """Draws the plan's prompts repeatedly, and puts each step's images beside the base's."""

    def __init__(self, base: Base, plan: TrainPlan, negative: Conditioning, folder: Path, observer: Observer) -> None:
        """``negative``: the conditioning that guidance leads away from, the empty prompt's."""
        self._base, self._plan, self._folder, self._observer = base, plan, folder, observer
        self._negative = negative
        self._before: list[SampleImage] = []
        self.seconds_per_image: float | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def draw(self, step: int, conditioning: Sequence[Conditioning]) -> None:
        """Step 0 is the base's. A unit is a few images; may raise Stopped between two."""
        started = time.perf_counter()
        images = self._draw_images(
            step, self._plan.sample_prompts, conditioning, self._plan.sample_seed, f"step-{step:06d}"
        )
        self.seconds_per_image = (time.perf_counter() - started) / len(images)
        if step == 0:
            self._before, columns = images, [("base", images)]
        else:
            columns = [("base", self._before), (f"step {step}", images)]
        grid = self._folder / f"grid-{step:06d}.png"
        draw_grid(columns, grid)
        self._observer.samples(step, images, grid)

    def draw_requested(self, step: int, request: SampleRequest, conditioning: Sequence[Conditioning]) -> None:
        """Reports the images of a request. As ``draw``."""
        images = self._draw_images(step, request.prompts, conditioning, request.seed, request.id)
        self._observer.requested_samples(request.id, step, images)

    def find_cover(self, step: int) -> Image.Image:
        """The first prompt's image of a step that was just drawn."""
        with Image.open(self._place(f"step-{step:06d}", 0), formats=["PNG"]) as image:
            return image.convert("RGB")

    @torch.no_grad()
    def draw_cover(self, encode: Callable[[list[str]], list[Conditioning]]) -> Image.Image | None:
        """The first prompt's image, drawn alone: a resumed run does not have the files of earlier grids."""
        if not self._plan.sample_prompts:
            return None
        conditioning = encode([self._plan.sample_prompts[0]])
        latents_BCHW = self._sample(conditioning, [self._plan.sample_seed])
        return self._base.decode(latents_BCHW)[0]

    def _draw_images(
        self, step: int, texts: Sequence[str], conditioning: Sequence[Conditioning], seed: int, name: str
    ) -> list[SampleImage]:
        """Some at a time; the files' names begin with ``name``."""
        images: list[SampleImage] = []
        prompts = list(enumerate(texts))
        for start in range(0, len(prompts), SAMPLES_AT_ONCE):
            chunk = prompts[start : start + SAMPLES_AT_ONCE]
            seeds = [seed + index for index, _ in chunk]
            rows = conditioning[start : start + len(chunk)]
            latents_BCHW = self._sample(rows, seeds)
            for (index, prompt), own, image in zip(chunk, seeds, self._base.decode(latents_BCHW), strict=True):
                path = self._place(name, index)
                further = {"Model": self._plan.model, "Training step": step}
                image.save(path, pnginfo=describe(prompt, "", sampling_params(self._plan), own, further))
                images.append(SampleImage(prompt, own, path))
            self._observer.unit(len(images), len(prompts))
            raise_if_stopped(self._observer)
        return images

    def _place(self, name: str, index: int) -> Path:
        return self._folder / f"{name}-{index:02d}.png"

    def _sample(self, conditioning: Sequence[Conditioning], seeds: Sequence[int]) -> torch.Tensor:
        after_step = partial(heartbeat_or_stop, self._observer)
        return self._base.sample(conditioning, self._negative, seeds, sampling_params(self._plan), after_step)


def sampling_params(plan: TrainPlan) -> SamplingParams:
    return SamplingParams(
        plan.sample_num_steps,
        plan.sample_guidance_scale,
        plan.sample_guidance_rescale,
        plan.resolution,
        plan.resolution,
        plan.sample_guidance_start,
        plan.sample_guidance_stop,
    )


def plan_size_conditioning(base: Base, plan: TrainPlan) -> Conditioning:
    """For an image that the base draws itself: whole, and never enlarged."""
    square = (plan.resolution, plan.resolution)
    return base.encode_size_conditioning(SizeConditioning(square, (0, 0), square))


def draw_grid(columns: Sequence[tuple[str, Sequence[SampleImage]]], path: Path) -> None:
    """A row per prompt, with the prompt above it; a column per (label, images)."""
    prompts = [sample.prompt for sample in columns[0][1]]
    with Image.open(columns[0][1][0].path, formats=["PNG"]) as first:
        tile = max(MIN_TILE, first.width)
    row_height = LABEL + tile + MARGIN
    size = (MARGIN + len(columns) * (tile + MARGIN), MARGIN + LABEL + len(prompts) * row_height)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, (label, images) in enumerate(columns):
        left = MARGIN + column * (tile + MARGIN)
        pen.text((left, MARGIN), label, font=_font(15), fill=INK)
        for row, sample in enumerate(images):
            top = MARGIN + LABEL + row * row_height
            if column == 0:
                pen.text(
                    (left, top + 3), _shorten(pen, sample.prompt, size[0] - 2 * MARGIN), font=_font(12), fill=FAINT
                )
            with Image.open(sample.path, formats=["PNG"]) as image:
                sheet.paste(image.resize((tile, tile), Image.Resampling.BICUBIC), (left, top + LABEL))
    sheet.save(path)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _shorten(pen: ImageDraw.ImageDraw, text: str, width: int) -> str:
    if pen.textlength(text, font=_font(12)) <= width:
        return text
    while text and pen.textlength(text + "…", font=_font(12)) > width:
        text = text[:-1]
    return text + "…"
