"""Trains a case as a job would, and measures the result: hits, forgetting, held-out loss, time."""

import functools
import hashlib
import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from bench.quality.cases import WORD, Case
from bench.quality.fidelity import Fidelity
from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.outcome import Outcome
from core.domain.plan import TrainPlan
from core.domain.resolve import resolve
from core.domain.spec import TrainingSpec
from core.model_folders import BUNDLED, read_card
from scripts.glyphs import caption, compose, draw_pose
from scripts.measure_tiny import draw, open_pipeline
from scripts.retrieval import find, list_asked
from worker.engine.device import choose_runtime
from worker.engine.families import load_base
from worker.engine.observer import RecordingObserver
from worker.engine.training.caching import fill_cache, start_caching
from worker.engine.training.data import BatchOrder, pick_batch
from worker.engine.training.objective import NoisedBatch, compute_loss
from worker.engine.training.train import train

TINY = BUNDLED / "tiny"
CPU = torch.device("cpu")
SEEDS_ASKED, SEEDS_KEPT = (7, 107), (1, 1001)
SHEET, TILE, GAP = "sheet.png", 100, 16
"""A contact sheet's name, and its pixels for an image and between the set and what was drawn."""


@dataclass(frozen=True)
class Trained:
    """diffusers loads ``adapter``. Losses are the base's and the adapter's on images that neither was trained on."""

    adapter: Path
    num_steps: int
    seconds: float
    outcome: Outcome | None = None


@dataclass(frozen=True)
class Row:
    """Hits and retention as shares of the prompts; ``base_retained`` without an adapter. ``retained_unasked``: for
    glyphs that prior preservation never asked the base to draw. ``plain``: of a style's prompts without its word, the
    share in the base's own style; None for a subject. ``bound``: the autoencoder's values on true renders."""

    case: str
    by: str
    hits: float
    plain: float | None
    fidelity: Fidelity
    bound: Fidelity
    retained: float
    retained_unasked: float | None
    base_retained: float
    base_loss: float
    loss: float
    num_steps: int
    step_taken: int
    seconds: float
    scores: Mapping[str, Any]


def write_set(pictures: Iterable[tuple[Image.Image, str]], folder: Path) -> tuple[DatasetManifest, dict[str, Path]]:
    """The manifest, and sha256 -> file."""
    folder.mkdir(parents=True)
    images, files = [], {}
    for index, (picture, text) in enumerate(pictures):
        path = folder / f"{index:02d}.png"
        picture.save(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        files[sha256] = path
        images.append(
            ManifestImage(
                name=path.name, key=sha256, sha256=sha256, size=path.stat().st_size, width=picture.width,
                height=picture.height, caption=text, dhash="0", sharpness=99,
            )
        )  # fmt: skip
    return DatasetManifest(images=tuple(images)), files


def make_plan(manifest: DatasetManifest, folder: Path, **spec: Any) -> TrainPlan:
    whole = {"trigger": WORD, "samples": {"prompts": []}, **spec}
    return resolve(TrainingSpec.model_validate(whole), manifest, read_card(folder))


def train_case(case: Case, spec: Mapping[str, Any], folder: Path, base_folder: Path = TINY) -> Trained:
    manifest, files = write_set(case.pictures, folder / "pictures")
    plan = make_plan(manifest, base_folder, **spec)
    runtime = choose_runtime(plan, CPU, read_card(base_folder), torch.get_num_threads())
    base = load_base(plan.family, base_folder, CPU, runtime.dtype)
    started = time.monotonic()
    result = train(
        plan, runtime, base, files, RecordingObserver(), folder / "work", shared_cache=folder.parent / "prior"
    )
    seconds = time.monotonic() - started
    return Trained(result.files["kohya"], result.outcome.num_steps, seconds, result.outcome)


def judge_case(case: Case, by: str, trained: Trained, folder: Path, base_folder: Path = TINY, asked: int = 100) -> Row:
    """``asked``: the number of base prompts for retention. Leaves the images in ``folder / SHEET``."""
    losses = [measure_loss(case, adapter, folder, base_folder) for adapter in (None, trained.adapter)]
    pipeline = pipeline_with(trained.adapter, base_folder)
    drawn = draw_asked(pipeline, case)
    write_sheet(case, drawn, folder / SHEET)
    retained = measure_retained(pipeline, asked, base_folder)
    return Row(
        case=case.name,
        by=by,
        hits=measure_hits(case, drawn),
        plain=measure_plain(pipeline, case),
        fidelity=measure_fidelity(case, drawn),
        bound=measure_bound(pipeline, case),
        retained=retained.share,
        retained_unasked=retained.share_unasked,
        base_retained=measure_base(base_folder, asked).share,
        base_loss=losses[0],
        loss=losses[1],
        num_steps=trained.num_steps,
        step_taken=trained.num_steps if trained.outcome is None else trained.outcome.step,
        seconds=trained.seconds,
        scores={} if trained.outcome is None else trained.outcome.scores.model_dump(),
    )


def write_sheet(case: Case, drawn: list[list[Image.Image]], path: Path) -> None:
    """The training images above the drawn ones, of which each row has half of a seed's."""
    half = len(case.asked) // 2
    rows = [[picture for picture, _ in case.pictures][:half]]
    rows += [row[start : start + half] for row in drawn for start in (0, half)]
    sheet = Image.new("RGB", (half * TILE, len(rows) * TILE + GAP), "white")
    for number, row in enumerate(rows):
        for column, picture in enumerate(row):
            place = (column * TILE, number * TILE + (GAP if number else 0))
            sheet.paste(picture.resize((TILE - 4, TILE - 4), Image.Resampling.BICUBIC), place)
    sheet.save(path)


def draw_asked(pipeline: StableDiffusionPipeline, case: Case) -> list[list[Image.Image]]:
    """Each prompt once from each seed."""
    return [draw(pipeline, [asked.prompt for asked in case.asked], seed) for seed in SEEDS_ASKED]


def measure_hits(case: Case, drawn: list[list[Image.Image]]) -> float:
    return fmean(asked.judge(picture) for row in drawn for picture, asked in zip(row, case.asked, strict=True))


def measure_plain(pipeline: StableDiffusionPipeline, case: Case) -> float | None:
    plain = [asked.plain for asked in case.asked if asked.plain is not None]
    if not plain:
        return None
    pictures = draw(pipeline, [prompt for prompt, _ in plain], SEEDS_ASKED[0])
    return fmean(judge(picture) for picture, (_, judge) in zip(pictures, plain, strict=True))


def measure_fidelity(case: Case, drawn: list[list[Image.Image]]) -> Fidelity:
    return Fidelity.mean(
        asked.subject.compare(picture) for row in drawn for picture, asked in zip(row, case.asked, strict=True)
    )


@torch.no_grad()
def measure_bound(pipeline: StableDiffusionPipeline, case: Case) -> Fidelity:
    """For renders in random poses, after the autoencoder."""
    rng, vae, rows = random.Random(f"bound:{case.name}"), pipeline.vae, []
    for asked in case.asked:
        subject = asked.subject
        art = rng.choice(subject.drawings)
        pixels = np.asarray(compose(art, subject.color, draw_pose(rng, subject.size_word)), np.float32)
        given = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
        decoded = vae.decode(vae.encode(given).latent_dist.mode()).sample
        picture = pipeline.image_processor.postprocess(decoded, output_type="pil")[0]
        rows.append(subject.compare(picture))
    return Fidelity.mean(rows)


def pipeline_with(adapter: Path | None, base_folder: Path = TINY) -> StableDiffusionPipeline:
    pipeline = open_pipeline(base_folder)
    if adapter is not None:
        pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
    return pipeline


@dataclass(frozen=True)
class Retained:
    share: float
    share_unasked: float | None  # None if all prompts were asked


def measure_retained(pipeline: StableDiffusionPipeline, asked: int, base_folder: Path) -> Retained:
    """The share of base prompts, none of which has the word, whose glyph and background are found in the image; each
    drawn once from each seed."""
    rows = list_asked()[:: max(1, 100 // asked)]
    prompts = [caption(*row) for row in rows]
    found = [find(picture) for seed in SEEDS_KEPT for picture in draw(pipeline, prompts, seed)]
    rows *= len(SEEDS_KEPT)
    right = [(f.glyph, f.background) == (row[0], row[2]) for f, row in zip(found, rows, strict=True)]
    class_prompts = read_card(base_folder).class_prompts
    unasked = [ok for ok, row in zip(right, rows, strict=True) if not any(f" {row[0]} on" in p for p in class_prompts)]
    return Retained(sum(right) / len(right), sum(unasked) / len(unasked) if unasked else None)


@functools.cache
def measure_base(folder: Path, asked: int) -> Retained:
    return measure_retained(pipeline_with(None, folder), asked, folder)


def measure_loss(case: Case, adapter: Path | None, folder: Path, base_folder: Path) -> float:
    """The mean over 20 draws, the same for the base and for every adapter."""
    weights = None if adapter is None else fused(pipeline_with(adapter, base_folder))
    return measure_loss_of(weights, case, folder / f"fresh-{adapter is not None}", base_folder)


def measure_loss_of(
    weights: Mapping[str, torch.Tensor] | None, case: Case, folder: Path, base_folder: Path = TINY
) -> float:
    """The same of any weights of the base's U-Net; None: its own. ``folder`` is made."""
    manifest, files = write_set(case.fresh, folder)
    spec = {"batch_size": 10, "seed": 5, "validation": {"fraction": 0}, "evaluation": "off"}
    plan = make_plan(
        manifest, base_folder, **spec, loss={"prior_preservation": {"num_images": 0}, "min_snr_gamma": None}
    )
    base = load_base(plan.family, base_folder, CPU, torch.float32)
    if weights is not None:
        base.denoiser.module.load_state_dict(weights, strict=True)
    runtime = choose_runtime(plan, CPU, read_card(base_folder), torch.get_num_threads())
    progress = start_caching(plan, RecordingObserver())
    cache = fill_cache(base, plan, runtime, files, folder / "cache", folder / "kept", progress)
    order, total = BatchOrder(plan), 0.0
    with torch.no_grad():
        for number in range(20):
            examples, texts = pick_batch(cache, plan, order, number)
            conditioning = [cache.conditioning[text] for text in texts]
            batch = NoisedBatch(plan, base, number, examples)
            total += compute_loss(base, plan, batch, conditioning, CPU).item()
    return total / 20


def fused(pipeline: StableDiffusionPipeline) -> dict[str, torch.Tensor]:
    """The U-Net's weights with the adapter merged, as any loader would do it."""
    pipeline.fuse_lora(components=["unet"])
    pipeline.unload_lora_weights()
    weights: dict[str, torch.Tensor] = pipeline.unet.state_dict()
    return weights
