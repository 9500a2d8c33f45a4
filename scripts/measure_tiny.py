"""Measures the bundled base: retrieval over 100 prompts, and a sheet of samples.

python -m scripts.measure_tiny [--folder models/tiny]
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from PIL import Image, ImageDraw, ImageFont

from scripts.card_tiny import DEFAULTS
from scripts.glyphs import SIZE, caption
from scripts.retrieval import find, list_asked

UNGUIDED = 1 + 1e-6


def open_pipeline(folder: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, safety_checker=None, local_files_only=True
    )
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(pipeline: StableDiffusionPipeline, prompts: list[str], seed: int) -> list[Image.Image]:
    """One image per prompt, each from its own generator, as the bundled base's card says."""
    pictures: list[Image.Image] = []
    how = DEFAULTS
    first, end = (int(part * how.sample_num_steps) for part in (how.sample_guidance_start, how.sample_guidance_stop))

    def guidance_at(step: int) -> float:
        """The pipeline evaluates both prompts in all steps or in none: a scale of hardly more than 1 omits guidance."""
        return how.sample_guidance_scale if first <= step < end else UNGUIDED

    def set_guidance(pipe: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale = guidance_at(step + 1)
        return tensors

    for start in range(0, len(prompts), 10):
        chunk = prompts[start : start + 10]
        pictures += pipeline(
            chunk,
            num_inference_steps=how.sample_num_steps,
            guidance_scale=guidance_at(0),
            guidance_rescale=how.sample_guidance_rescale,
            callback_on_step_end=set_guidance,
            height=SIZE,
            width=SIZE,
            generator=[torch.Generator().manual_seed(seed + start + i) for i in range(len(chunk))],
        ).images
    return pictures


def measure_retrieval(pipeline: StableDiffusionPipeline, seed: int = 1) -> dict[str, float]:
    """Shares of the 100 prompts for which the glyph, the background, and both were found."""
    rows = list_asked()
    pictures = draw(pipeline, [caption(*row) for row in rows], seed)
    found = [find(picture) for picture in pictures]
    glyphs = [f.glyph == row[0] for f, row in zip(found, rows, strict=True)]
    backgrounds = [f.background == row[2] for f, row in zip(found, rows, strict=True)]
    both = [a and b for a, b in zip(glyphs, backgrounds, strict=True)]
    return {
        "glyph": sum(glyphs) / len(rows),
        "background": sum(backgrounds) / len(rows),
        "both": sum(both) / len(rows),
    }


def draw_sheet(pipeline: StableDiffusionPipeline, path: Path) -> None:
    """Eight columns, four rows, each image under its prompt's words."""
    rows = list_asked()[::3][:32]
    pictures = draw(pipeline, [caption(*row) for row in rows], seed=500)
    tile, label = 2 * SIZE, 16
    sheet = Image.new("RGB", (8 * tile, 4 * (tile + label)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for index, (picture, row) in enumerate(zip(pictures, rows, strict=True)):
        left, top = index % 8 * tile, index // 8 * (tile + label)
        pen.text((left + 2, top + 2), f"{row[1]} {row[0]}, {row[2]}", font=font, fill=(60, 60, 60))
        sheet.paste(picture.resize((tile, tile), Image.Resampling.BICUBIC), (left, top + label))
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("models/tiny"))
    args = parser.parse_args()
    pipeline = open_pipeline(args.folder)
    draw_sheet(pipeline, args.folder / "samples.png")
    print(json.dumps(measure_retrieval(pipeline)))


if __name__ == "__main__":
    main()
