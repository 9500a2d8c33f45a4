"""What the defaults teach: a held-out glyph, on backgrounds that it was never shown on, without harm to the rest."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.plan import TrainPlan, resolve
from core.domain.spec import TrainingSpec
from core.model_folders import BUNDLED, read_card
from scripts.glyphs import BACKGROUNDS, BASE, HELD_OUT, caption, draw_set, find_font
from scripts.measure_tiny import draw, list_prompts, open_pipeline
from scripts.retrieval import find, measure_on_renders
from worker.training.data import BatchOrder, fill_cache, pick_batch
from worker.training.device import choose_runtime
from worker.training.families import load_base
from worker.training.loop import train
from worker.training.objective import Draw, compute_loss
from worker.training.observer import RecordingObserver

pytestmark = pytest.mark.slow

SUBJECT, WORD = "robot", "zog"
SHOWN = ["white", "gray", "red", "yellow", "green"]
UNSEEN = [name for name in BACKGROUNDS if name not in SHOWN]
TINY = BUNDLED / "tiny"
CPU = torch.device("cpu")


@dataclass
class Trained:
    plan: TrainPlan
    adapter: Path
    held_out_loss: tuple[float, float]  # of the base, of the adapter


def write_set(folder: Path, count: int, seed: int) -> tuple[DatasetManifest, dict[str, Path]]:
    folder.mkdir()
    images, files = [], {}
    for index, (picture, size_word, background) in enumerate(draw_set(HELD_OUT[SUBJECT], SHOWN, count, seed)):
        path = folder / f"{index}.png"
        picture.save(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        files[sha256] = path
        images.append(
            ManifestImage(
                name=path.name, key=sha256, sha256=sha256, size=path.stat().st_size, width=64, height=64,
                caption=caption(WORD, size_word, background), dhash="0", sharpness=99,
            )
        )  # fmt: skip
    return DatasetManifest(images=tuple(images)), files


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`preset: auto` on 12 pictures, and the denoising loss on 10 others, by fixed noise and timesteps."""
    find_font()
    folder = tmp_path_factory.mktemp("learning")
    model = read_card(TINY)
    manifest, files = write_set(folder / "train", 12, seed=1)
    plan = resolve(TrainingSpec.model_validate({"trigger": WORD, "samples": {"prompts": []}}), manifest, model)
    runtime = choose_runtime(plan, CPU, model.num_parameters, 2)
    base = load_base("sd1", TINY, CPU, runtime.dtype)
    result = train(plan, runtime, base, files, RecordingObserver(), folder / "work")
    losses = (held_out_loss(folder, None), held_out_loss(folder, result.files["diffusers"]))
    return Trained(plan, result.files["kohya"], losses)


def held_out_loss(folder: Path, adapter: Path | None) -> float:
    """Mean over 10 pictures x 20 draws; the draws are the same for the base and the adapter."""
    model = read_card(TINY)
    other = folder / f"held-out-{adapter is not None}"
    manifest, files = write_set(other, 10, seed=99)
    spec = {"trigger": WORD, "batch_size": 10, "captions": {"dropout": 0}, "samples": {"prompts": []}, "seed": 5}
    plan = resolve(TrainingSpec.model_validate(spec), manifest, model)
    base = load_base("sd1", TINY, CPU, torch.float32)
    if adapter is not None:
        base.denoiser.load_lora_adapter(adapter.parent, weight_name=adapter.name, prefix="unet")
    (other / "cache").mkdir()
    cache = fill_cache(base, plan, files, other / "cache", RecordingObserver())
    order, total = BatchOrder(plan), 0.0
    with torch.no_grad():
        for number in range(20):
            posteriors, conditioning = pick_batch(cache, plan, order, number)
            total += compute_loss(base, plan, Draw(plan, base.process, number, posteriors), conditioning, CPU).item()
    return total / 20


def pipeline_with(adapter: Path | None) -> StableDiffusionPipeline:
    pipeline = open_pipeline(TINY)
    if adapter is not None:
        pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
    return pipeline


def test_the_measure_itself_is_right_on_fresh_renders() -> None:
    assert measure_on_renders(200, seed=3) >= 0.98


def test_the_held_out_loss_falls(trained: Trained) -> None:
    before, after = trained.held_out_loss
    print(f"held-out loss {before:.4f} -> {after:.4f} ({1 - after / before:.1%})")
    assert after <= 0.85 * before


@pytest.mark.xfail(reason="6 of 10 at the defaults, of a goal of 8: see models/tiny/README.md", strict=False)
def test_the_subject_stands_on_backgrounds_that_it_was_never_shown_on(trained: Trained) -> None:
    prompts = [(("large", "small")[i % 2], UNSEEN[i % len(UNSEEN)]) for i in range(10)]
    pictures = draw(pipeline_with(trained.adapter), [caption(WORD, size, color) for size, color in prompts], seed=7)
    found = [find(picture) for picture in pictures]
    hits = [(f.glyph, f.background) == (SUBJECT, color) for f, (_, color) in zip(found, prompts, strict=True)]
    print(f"{sum(hits)} of 10: {[dataclasses.astuple(f) for f in found]}")
    assert sum(hits) >= 8


@pytest.mark.xfail(reason="the goal is not reached without prior preservation: see models/tiny/README.md", strict=False)
def test_what_the_base_knew_it_still_knows(trained: Trained) -> None:
    rows = list_prompts()
    prompts = [caption(*row) for row in rows]

    def score(pictures: list[Image.Image]) -> float:
        found = [find(picture) for picture in pictures]
        return float(np.mean([(f.glyph, f.background) == (row[0], row[2]) for f, row in zip(found, rows, strict=True)]))

    before = score(draw(pipeline_with(None), prompts, seed=1))
    after = score(draw(pipeline_with(trained.adapter), prompts, seed=1))
    print(f"retrieval of {len(BASE)} base prompts {before:.2f} -> {after:.2f}")
    assert after >= before - 0.05
