"""LoRA against full fine-tuning, on one base and set: what people say of LoRA, as a measured table.

    python -m bench.lora_vs_full [--images 12 6 3] [--steps N] [--full-rates 1e-5 1e-4] [--out out/lora-vs-full.md]

The bundled base and the example set, with this bench's word. All rows have the same images, steps, batch, objective and
seed, and no prior preservation, so that forgetting shows. Each is trained and judged in a process of its own, for its
peak of memory is the process's. With all sizes it takes about an hour of two cores; ``--prompts`` and ``--asked`` draw
fewer images for the judgement, and ``--steps`` trains less.
"""

import argparse
import multiprocessing
import statistics
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from bench.full_training import train_full
from bench.memory.job import read_status
from bench.quality.cases import Case, blip_case
from bench.quality.measure import (
    CPU,
    TINY,
    draw_asked,
    fused,
    make_plan,
    measure_base,
    measure_fidelity,
    measure_hits,
    measure_loss_of,
    measure_retained,
    pipeline_with,
    write_set,
)
from core.domain.outcome import Outcome
from core.model_folders import read_card
from worker.engine.device import choose_runtime
from worker.engine.families import load_base
from worker.engine.observer import RecordingObserver
from worker.engine.training.train import train

COMMON: Mapping[str, Any] = {
    "loss": {"prior_preservation": {"num_images": 0}}, "validation": {"fraction": 0}, "evaluation": "off", "seed": 0,
}  # fmt: skip

HEAD = """# LoRA against full fine-tuning

The bundled base ({num_parameters:,} parameters in its U-Net) and the example set, batch {batch}, seed 0, no prior
preservation; on a CPU with {threads} threads.

- **Trained**: parameters, and their share of the U-Net's. **File**: kohya's, or the U-Net's weights in fp16.
- **Held-out loss**: the base's and the result's on ten images that neither was trained on, with the same noise.
- **Hits**: of {num_drawn} images of the subject on backgrounds that no training image had, the share that shows both;
  **PSNR** against the nearest render.
- **Kept**: of {num_asked} images for known glyphs, without the word, the share that is still right; the base reaches
  {kept:.1%}.

| method | rate | images | steps | trained | file | s/step | peak memory | held-out loss | hits | PSNR | kept |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Method:
    """``adapter``: of the spec; None trains every weight. ``rate``: None for the card's."""

    title: str
    adapter: Mapping[str, Any] | None
    rate: float | None = None


@dataclass(frozen=True)
class Sizes:
    """``prompts`` for the subject, of 20; ``asked`` base prompts, of 100. ``steps``: None for the preset's."""

    steps: int | None
    prompts: int
    asked: int
    threads: int


@dataclass(frozen=True)
class Result:
    """Of a training: a U-Net's weights, and the figures. ``seconds``: a step's median."""

    weights: Mapping[str, torch.Tensor]
    pipeline: StableDiffusionPipeline
    num_steps: int
    num_trained: int
    file_bytes: int
    seconds: float


@dataclass(frozen=True)
class Row:
    """Bytes and seconds; ``losses``: the base's and the result's."""

    method: str
    rate: float
    num_images: int
    num_steps: int
    num_trained: int
    file_bytes: int
    seconds: float
    peak_bytes: int
    losses: tuple[float, float]
    hits: float
    psnr: float
    kept: float

    def describe(self, num_parameters: int) -> str:
        trained = f"{self.num_trained:,} ({self.num_trained / num_parameters:.2%})"
        sizes = f"{self.file_bytes / 1e6:.1f} MB | {self.seconds:.3f} | {self.peak_bytes / 1e6:,.0f} MB"
        loss = f"{self.losses[0]:.3f} → {self.losses[1]:.3f} ({self.losses[1] / self.losses[0] - 1:+.0%})"
        head = f"{self.method} | {self.rate:g} | {self.num_images} | {self.num_steps}"
        return f"| {head} | {trained} | {sizes} | {loss} | {self.hits:.0%} | {self.psnr:.1f} | {self.kept:.1%} |\n"


def list_methods(full_rates: list[float]) -> list[Method]:
    """The rates of full fine-tuning are not the card's, which are an adapter's."""
    return [
        Method("LoRA, rank 4, attention", {"type": "lora", "rank": 4, "targets": "attention"}),
        Method("as the card says", {}),
        *(Method("full fine-tuning", None, rate) for rate in full_rates),
    ]


def choose_case(num_images: int, sizes: Sizes) -> Case:
    case = blip_case()
    return replace(case, pictures=case.pictures[:num_images], asked=case.asked[: sizes.prompts])


def measure(method: Method, num_images: int, sizes: Sizes, folder: Path) -> Row:
    """In this process, which should be a new one."""
    torch.set_num_threads(sizes.threads)
    case, card = choose_case(num_images, sizes), read_card(TINY)
    result, peak = _train(method, case, sizes, folder)
    drawn = draw_asked(result.pipeline, case)
    losses = [measure_loss_of(weights, case, folder / f"fresh-{weights is None}") for weights in (None, result.weights)]
    return Row(
        method=method.title,
        rate=method.rate or card.defaults.learning_rate,
        num_images=len(case.pictures),
        num_steps=result.num_steps,
        num_trained=result.num_trained,
        file_bytes=result.file_bytes,
        seconds=result.seconds,
        peak_bytes=peak,
        losses=(losses[0], losses[1]),
        hits=measure_hits(case, drawn),
        psnr=measure_fidelity(case, drawn).psnr,
        kept=measure_retained(result.pipeline, sizes.asked, TINY).share,
    )


def _train(method: Method, case: Case, sizes: Sizes, folder: Path) -> tuple[Result, int]:
    """With the peak of memory up to the end of the training, before anything is drawn."""
    card = read_card(TINY)
    spec = dict(COMMON, **({} if sizes.steps is None else {"steps": sizes.steps}))
    spec |= {} if method.adapter is None else {"adapter": dict(method.adapter)}
    spec |= {} if method.rate is None else {"optimizer": {"learning_rate": method.rate}}
    manifest, files = write_set(case.pictures, folder / "pictures")
    plan = make_plan(manifest, TINY, **spec)
    runtime = choose_runtime(plan, CPU, card, sizes.threads)
    base = load_base(plan.family, TINY, CPU, runtime.dtype)
    if method.adapter is not None:
        trained = train(plan, runtime, base, files, RecordingObserver(), folder / "work")
        peak, outcome = read_status("VmHWM"), trained.outcome
        return _read_adapter(trained.files["kohya"], outcome), peak
    full = train_full(plan, runtime, base, files, folder / "work")
    peak = read_status("VmHWM")
    pipeline = pipeline_with(None)
    weights = {name: weight.float() for name, weight in load_file(full.file).items()}
    pipeline.unet.load_state_dict(weights)
    seconds = statistics.median(full.step_seconds[1:] or full.step_seconds)
    size = full.file.stat().st_size
    return Result(weights, pipeline, plan.steps, full.num_parameters, size, seconds), peak


def _read_adapter(file: Path, outcome: Outcome) -> Result:
    weights = fused(pipeline_with(file))
    size, trained = file.stat().st_size, outcome.num_parameters
    return Result(weights, pipeline_with(file), outcome.num_steps, trained, size, outcome.seconds_per_step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", nargs="+", type=int, default=[12, 6, 3])
    parser.add_argument("--steps", type=int, help="default: as many as the preset takes for so many images")
    parser.add_argument("--full-rates", nargs="*", type=float, default=[1e-5, 1e-4], metavar="RATE")
    parser.add_argument("--prompts", type=int, default=20, help="for the subject; two images each")
    parser.add_argument("--asked", type=int, default=100, help="base prompts for what is kept; two images each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("out/lora-vs-full.md"), metavar="PATH")
    args = parser.parse_args()
    sizes, card = Sizes(args.steps, args.prompts, args.asked, args.threads), read_card(TINY)
    torch.set_num_threads(args.threads)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    text = HEAD.format(
        num_parameters=card.num_parameters, batch=card.defaults.batch_size, threads=args.threads,
        num_drawn=2 * args.prompts, num_asked=2 * args.asked, kept=measure_base(TINY, args.asked).share,
    )  # fmt: skip
    args.out.write_text(text)
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch, ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as pool:
        todo = [(method, count) for count in args.images for method in list_methods(args.full_rates)]
        for number, (method, count) in enumerate(todo):
            row = pool.submit(measure, method, count, sizes, Path(scratch) / str(number)).result()
            text += row.describe(card.num_parameters)
            args.out.write_text(text)  # after each, for a run may be stopped
            print(row.describe(card.num_parameters), end="", flush=True)


if __name__ == "__main__":
    main()
