"""The training loop, to be read from top to bottom.

A frozen base, a fresh adapter on its denoiser, cached latents and captions, and one optimizer. The run is
a pure function of (plan, runtime, pictures): every draw is keyed by (seed, step, stream), so a run that was
stopped at any step and resumed from its checkpoint ends in the same bytes.
"""

import hashlib
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator

from core.domain.plan import TrainPlan
from core.domain.states import Phase
from worker.training.adapters import attach, count_parameters, detach, read_modules
from worker.training.checkpoint import State, load_checkpoint, save_checkpoint
from worker.training.data import BatchOrder, Cache, fill_cache, pick_batch
from worker.training.device import Runtime, be_deterministic, open_accelerator, peak_memory_bytes, reset_peak
from worker.training.errors import BaseChanged, NanLoss
from worker.training.families.protocol import Base
from worker.training.formats import export
from worker.training.objective import Draw, compute_loss
from worker.training.observer import Observer, Picture, StepReport, Stop, Stopped
from worker.training.optim import open_optimizer, open_schedule
from worker.training.sampling import draw_grid, draw_samples

LOSS_SMOOTHING = 0.98
SECONDS_BETWEEN_CHECKPOINTS = 300.0


@dataclass(frozen=True)
class TrainResult:
    """The files of a finished run, and what it measured of itself."""

    files: Mapping[str, Path]  # format -> adapter
    num_parameters: int
    final_loss: float
    seconds_per_step: float
    peak_memory_bytes: int


def train(
    plan: TrainPlan,
    runtime: Runtime,
    base: Base,
    files: Mapping[str, Path],
    observer: Observer,
    workdir: Path,
    resume_from: Path | None = None,
) -> TrainResult:
    """Trains one adapter. ``files`` maps an image's sha256 to its local PNG.

    Raises Stopped when the observer asks for it, and TrainingError where the run cannot end well. The base
    is left as it came.
    """
    be_deterministic(runtime)
    accelerator = open_accelerator(runtime)
    reset_peak(accelerator.device)
    before = hash_weights(base)
    observer.phase(Phase.CACHING)
    cache = fill_cache(base, plan, files, make_folder(workdir / "cache"), observer)
    try:
        run = Run(plan, runtime, base, cache, accelerator, observer, workdir)
        if resume_from is not None:
            load_checkpoint(run.state, plan, resume_from)
        run.draw_base_samples()
        run.steps()
        observer.phase(Phase.EXPORTING)
        exported = export(base, plan, read_modules(base, plan), runtime.precision, workdir)
        result = run.conclude(exported)
    finally:
        detach(base)
    if hash_weights(base) != before:
        raise BaseChanged("The base's weights changed during training")
    return result


@dataclass
class Run:
    """The moving parts of one training."""

    plan: TrainPlan
    runtime: Runtime
    base: Base
    cache: Cache
    accelerator: Accelerator
    observer: Observer
    workdir: Path
    state: State = field(init=False)
    pace: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        params = attach(self.base, self.plan)
        optimizer = self.accelerator.prepare_optimizer(open_optimizer(self.plan, params.values()))
        self.state = State(params, optimizer, open_schedule(self.plan, optimizer.optimizer), self.accelerator)
        self.order = BatchOrder(self.plan)
        self.last_saved = time.monotonic()
        if self.runtime.gradient_checkpointing:
            self.base.denoiser.enable_gradient_checkpointing()
        else:
            self.base.denoiser.disable_gradient_checkpointing()

    def steps(self) -> None:
        if self.state.step in self.plan.sample_steps:  # resumed right here: the grid may not have been drawn
            self.draw_step_samples()
        self.observer.phase(Phase.TRAINING)
        while self.state.step < self.plan.steps:
            started = time.perf_counter()
            loss = self.one_step()
            self.report(loss, time.perf_counter() - started)
            self.obey()
            if self.checkpoint_is_due():
                self.save()
            if self.state.step in self.plan.sample_steps:
                self.draw_step_samples()

    def one_step(self) -> float:
        """One optimizer step over ``gradient_accumulation`` micro-batches; returns their mean loss."""
        plan, state, total = self.plan, self.state, 0.0
        self.base.denoiser.train()
        for micro in range(plan.gradient_accumulation):
            number = state.step * plan.gradient_accumulation + micro
            posteriors, conditioning = pick_batch(self.cache, plan, self.order, number)
            draw = Draw(plan, self.base.process, number, posteriors)
            with self.autocast():
                loss = compute_loss(self.base, plan, draw, conditioning, self.accelerator.device)
            self.accelerator.backward(loss / plan.gradient_accumulation)
            total += loss.item() / plan.gradient_accumulation
        if not math.isfinite(total):
            raise NanLoss(state.step + 1, state.schedule.get_last_lr()[0])
        self.accelerator.clip_grad_norm_(list(state.params.values()), plan.max_grad_norm)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.schedule.step()
        state.step += 1
        return total

    def report(self, loss: float, seconds: float) -> None:
        """Clients see a smoothed loss: single steps' losses depend mostly on their timesteps."""
        state = self.state
        weight = min(LOSS_SMOOTHING, 1 - 1 / state.step)
        state.loss = weight * state.loss + (1 - weight) * loss
        self.pace.append(seconds)
        self.observer.step(StepReport(state.step, state.loss, state.schedule.get_last_lr()[0], seconds))

    def obey(self) -> None:
        if self.observer.should_stop() is not None:
            self.save_if_asked()
            raise Stopped

    def save_if_asked(self) -> None:
        if self.observer.should_stop() is Stop.SAVE:
            self.save()

    def checkpoint_is_due(self) -> bool:
        if self.state.step == self.plan.steps:
            return True
        late = time.monotonic() - self.last_saved > SECONDS_BETWEEN_CHECKPOINTS
        return late or self.state.step % self.plan.checkpoint_every == 0

    def save(self) -> None:
        path = make_folder(self.workdir / "checkpoints") / f"step-{self.state.step:06d}.safetensors"
        save_checkpoint(self.state, self.plan, path)
        self.last_saved = time.monotonic()
        self.observer.checkpoint(self.state.step, self.state.loss, path)

    # --- samples: the base alone at step 0, the adapter later, side by side in every grid ---

    def draw_base_samples(self) -> None:
        if self.plan.sample_prompts:
            self.observer.phase(Phase.SAMPLING)
            self.base.denoiser.disable_adapters()
            self.before = self.draw(0)
            self.base.denoiser.enable_adapters()
            self.show(0, [("base", self.before)])

    def draw_step_samples(self) -> None:
        self.observer.phase(Phase.SAMPLING)
        step = self.state.step
        try:
            drawn = self.draw(step)
        except Stopped:
            self.save_if_asked()
            raise
        self.show(step, [("base", self.before), (f"step {step}", drawn)])
        if step < self.plan.steps:
            self.observer.phase(Phase.TRAINING)

    def draw(self, step: int) -> list[Picture]:
        self.base.denoiser.eval()
        folder = make_folder(self.workdir / "samples")
        with self.autocast():
            return draw_samples(self.base, self.plan, self.cache, step, folder, self.observer)

    def show(self, step: int, columns: list[tuple[str, list[Picture]]]) -> None:
        grid = self.workdir / "samples" / f"grid-{step:06d}.png"
        draw_grid(columns, grid)
        self.observer.samples(step, columns[-1][1], grid)

    def autocast(self) -> torch.autocast | nullcontext[None]:
        if self.runtime.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.accelerator.device.type, self.runtime.dtype)

    def conclude(self, exported: Mapping[str, Path]) -> TrainResult:
        return TrainResult(
            files=exported,
            num_parameters=count_parameters(self.state.params),
            final_loss=self.state.loss,
            seconds_per_step=sorted(self.pace)[len(self.pace) // 2] if self.pace else 0.0,
            peak_memory_bytes=peak_memory_bytes(self.accelerator.device),
        )


def hash_weights(base: Base) -> str:
    """SHA-256 over the denoiser's tensors, by name."""
    digest = hashlib.sha256()
    for name, tensor in base.denoiser.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def make_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
