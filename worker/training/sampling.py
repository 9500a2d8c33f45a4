"""Sample pictures during a run, and the labelled grid that shows the base against the adapter."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from core.domain.plan import TrainPlan
from worker.training.data import EMPTY, Cache
from worker.training.families.protocol import Base
from worker.training.observer import Observer, Picture, Stopped

PICTURES_AT_ONCE = 4
MIN_TILE, MARGIN, LABEL = 192, 12, 22

INK, PAPER, FAINT = (28, 28, 30), (255, 255, 255), (110, 110, 116)


def draw_samples(
    base: Base, plan: TrainPlan, cache: Cache, step: int, folder: Path, observer: Observer
) -> list[Picture]:
    """One picture per prompt, each from its own seed, saved as PNG with its parameters. A unit is a few pictures."""
    pictures: list[Picture] = []
    prompts = list(enumerate(plan.sample_prompts))
    for start in range(0, len(prompts), PICTURES_AT_ONCE):
        chunk = prompts[start : start + PICTURES_AT_ONCE]
        images = base.sample(
            [cache.conditioning[prompt] for _, prompt in chunk],
            cache.conditioning[EMPTY],
            seeds=[plan.sample_seed + index for index, _ in chunk],
            num_steps=plan.sample_num_steps,
            guidance_scale=plan.sample_guidance_scale,
            side=plan.resolution,
        )
        for (index, prompt), image in zip(chunk, images, strict=True):
            path = folder / f"step-{step:06d}-{index:02d}.png"
            seed = plan.sample_seed + index
            image.save(path, pnginfo=_parameters(plan, prompt, seed, step))
            pictures.append(Picture(prompt, seed, path))
        observer.unit(len(pictures), len(prompts))
        if observer.should_stop():
            raise Stopped
    return pictures


def _parameters(plan: TrainPlan, prompt: str, seed: int, step: int) -> PngInfo:
    """The text chunk ``parameters``, in the form that A1111 writes and reads."""
    info = PngInfo()
    info.add_text(
        "parameters",
        f"{prompt}\nSteps: {plan.sample_num_steps}, Sampler: DDIM, CFG scale: {plan.sample_guidance_scale}, "
        f"Seed: {seed}, Size: {plan.resolution}x{plan.resolution}, Model: {plan.model}, Training step: {step}",
    )
    return info


def draw_grid(columns: Sequence[tuple[str, Sequence[Picture]]], path: Path) -> None:
    """A row per prompt, with the prompt above it; a column per (label, pictures)."""
    prompts = [picture.prompt for picture in columns[0][1]]
    with Image.open(columns[0][1][0].path) as first:
        tile = max(MIN_TILE, first.width)
    row_height = LABEL + tile + MARGIN
    size = (MARGIN + len(columns) * (tile + MARGIN), MARGIN + LABEL + len(prompts) * row_height)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, (label, pictures) in enumerate(columns):
        left = MARGIN + column * (tile + MARGIN)
        pen.text((left, MARGIN), label, font=_font(15), fill=INK)
        for row, picture in enumerate(pictures):
            top = MARGIN + LABEL + row * row_height
            if column == 0:
                pen.text(
                    (left, top + 3), _shorten(pen, picture.prompt, size[0] - 2 * MARGIN), font=_font(12), fill=FAINT
                )
            with Image.open(picture.path) as image:
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
