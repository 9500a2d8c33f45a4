"""The training loop, readable from top to bottom.

A frozen base, a new adapter on it, cached latents and captions, and one optimizer. The run is a pure function of
(plan, runtime, images): every draw is keyed by (seed, step, stream), so a run that was stopped at any step and resumed
from its checkpoint ends with the same bytes.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator

from core.domain.outcome import Outcome
from core.domain.plan import TrainPlan
from core.domain.states import Phase
from worker.engine.adapters import adapters_disabled, attach_all, count_parameters
from worker.engine.device import Runtime, peak_memory_bytes, set_checkpointing
from worker.engine.draws import seed_torch
from worker.engine.errors import NanLoss
from worker.engine.families.protocol import Base, Conditioning
from worker.engine.generation.sampling import Gallery
from worker.engine.observer import Observer, SampleRequest, StepReport, Stop, Stopped
from worker.engine.training.caching import encode_prompts
from worker.engine.training.checkpoint import save_checkpoint
from worker.engine.training.data import EMPTY, BatchOrder, Cache, pick_batch, with_size_conditioning
from worker.engine.training.held_out import HeldOut
from worker.engine.training.objective import NoisedBatch, compute_loss, compute_prior_loss
from worker.engine.training.optim import effective_rate, open_optimizer, open_schedule
from worker.engine.training.output import TrainResult, write_adapter
from worker.engine.training.prior import Prior
from worker.engine.training.requests import answer_requests, lend
from worker.engine.training.scores import measure_scores
from worker.engine.training.state import State

LOSS_SMOOTHING = 0.98
SECONDS_BETWEEN_CHECKPOINTS = 300.0


@dataclass
class Run:
    """The moving parts of one training."""

    plan: TrainPlan
    runtime: Runtime
    base: Base
    cache: Cache
    prior: Prior
    accelerator: Accelerator
    observer: Observer
    workdir: Path
    step_seconds: list[float] = field(default_factory=list)
    promoted_step: int | None = None  # known at the end

    def __post_init__(self) -> None:
        plan, self.device = self.plan, self.accelerator.device
        attached = attach_all(self.base, plan)
        self.networks, self.encoders = attached.networks, attached.encoders
        optimizer = self.accelerator.prepare_optimizer(open_optimizer(plan, attached.groups, self.device))
        self.state = State(attached.params, optimizer, open_schedule(plan, optimizer.optimizer), self.accelerator)
        self.order = BatchOrder(plan)
        self.held_out = HeldOut(self.base, plan, self.cache)
        self.gallery = Gallery(self.base, plan, self.cache.conditioning[EMPTY], self.workdir / "samples", self.observer)
        self.last_saved = time.monotonic()
        set_checkpointing(self.base.denoiser.module, on=self.runtime.gradient_checkpointing)

    def run_steps(self) -> None:
        self.set_mode(training=True)
        self.evaluate_after_resume()
        while not self.is_over():
            started = time.perf_counter()
            loss = self.one_step()
            self.report(loss, time.perf_counter() - started)
            self.handle_stop_request()
            answer_requests(self.observer, self.draw_requested)
            self.observer.between_steps(partial(lend, self.base.denoiser))
            self.evaluate_if_due()
            if self.checkpoint_is_due():
                self.save()

    def is_over(self) -> bool:
        """After all steps, or when the held-out loss has not improved for the plan's patience."""
        return self.state.step >= self.plan.steps or self.patience_exhausted()

    def patience_exhausted(self) -> bool:
        patience = self.plan.patience
        return patience is not None and self.state.evals_without_improvement(self.plan.min_delta) >= patience

    def one_step(self) -> float:
        """One optimizer step over ``gradient_accumulation`` micro-batches; returns their mean loss."""
        plan, state, total = self.plan, self.state, 0.0
        for micro in range(plan.gradient_accumulation):
            number = state.step * plan.gradient_accumulation + micro
            seed_torch(plan.seed, number)  # dropout's masks are the only draws by torch itself
            loss = self.training_loss_backward(number)
            if self.prior.examples:
                loss += plan.prior_weight * self.prior_loss_backward(number)
            total += loss / plan.gradient_accumulation
        if not math.isfinite(total):
            raise self.nan_error("loss", state.step + 1)
        self.accelerator.clip_grad_norm_(list(state.params.values()), plan.max_grad_norm)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.schedule.step()
        state.step += 1
        if plan.ema is not None:
            state.update_average(plan.ema)
        return total

    def nan_error(self, what: str, step: int) -> NanLoss:
        return NanLoss(step, self.state.schedule.get_last_lr()[0], what)

    def training_loss_backward(self, number: int) -> float:
        """Adds the gradient of micro-batch ``number``; returns its loss."""
        examples, texts = pick_batch(self.cache, self.plan, self.order, number)
        batch, total = NoisedBatch(self.plan, self.base, number, examples), 0.0
        for part in self.runtime.split(len(texts)):
            with self.runtime.autocast():
                conditioning = with_size_conditioning(self.encode(texts[part]), examples[part])
                loss = compute_loss(self.base, self.plan, batch.subset(part), conditioning, self.device)
            total += self.backward(loss, len(conditioning) / len(texts))
        return total

    def prior_loss_backward(self, number: int) -> float:
        """Adds the gradient of prior preservation; returns its loss, not yet weighted."""
        examples, texts = self.prior.pick(self.plan, number)
        batch, total = NoisedBatch(self.plan, self.base, number, examples, stream="prior-"), 0.0
        for part in self.runtime.split(len(texts)):
            noised = batch.subset(part)
            with self.runtime.autocast():
                with torch.no_grad(), adapters_disabled(self.networks):
                    cached = [self.cache.conditioning[text] for text in texts[part]]
                    plain = with_size_conditioning(cached, examples[part])
                    teacher_prediction = noised.predict(self.base, plain, self.device)
                conditioning = with_size_conditioning(self.encode(texts[part]), examples[part])
                loss = compute_prior_loss(self.base, self.plan, noised, conditioning, teacher_prediction, self.device)
            total += self.backward(loss, len(conditioning) / len(texts), self.plan.prior_weight)
        return total

    def backward(self, loss: torch.Tensor, share: float, weight: float = 1.0) -> float:
        """Adds the gradient of a pass with that share of a micro-batch; returns its share of the loss."""
        self.accelerator.backward(loss * share * weight / self.plan.gradient_accumulation)
        return loss.item() * share

    def encode(self, texts: list[str]) -> list[Conditioning]:
        """From the cache, or from the text encoders' current weights if they are trained too."""
        if self.encoders is None:
            return [self.cache.conditioning[text] for text in texts]
        return self.encoders.encode(texts)

    def report(self, loss: float, seconds: float) -> None:
        """Clients see a smoothed loss: single steps' losses depend mostly on their timesteps."""
        state = self.state
        weight = min(LOSS_SMOOTHING, 1 - 1 / state.step)
        state.loss = weight * state.loss + (1 - weight) * loss
        self.step_seconds.append(seconds)
        self.observer.step(StepReport(state.step, state.loss, effective_rate(state.optimizer), seconds))

    def handle_stop_request(self) -> None:
        if self.observer.should_stop() is not None:
            self.save_if_requested()
            raise Stopped

    def save_if_requested(self) -> None:
        """Skipped after promotion: the last step's checkpoint already exists, and the current weights are the promoted
        ones."""
        if self.observer.should_stop() is Stop.SAVE and not self.promoted_step:
            self.save()

    # --- evaluation: held-out loss, samples ---

    def evaluate_after_resume(self) -> None:
        """Runs once, at the first step of an attempt. If the previous attempt stopped before or during an evaluation,
        its checkpoint lacks that step's held-out loss: evaluate now, and write the checkpoint again."""
        if self.state.step > 0 and self.plan.held_out_images and not self.state.validation_curve:
            self.validate(0)  # the checkpoint is from a version that measured differently
        num_evaluations = len(self.state.validation_curve)
        self.evaluate_if_due()
        if self.state.step > 0 and len(self.state.validation_curve) > num_evaluations and self.checkpoint_is_due():
            self.save()

    def evaluate_if_due(self) -> None:
        step, evaluated = self.state.step, [step for step, _ in self.state.validation_curve]
        is_due = step == 0 or step in self.plan.validation_steps
        if is_due and self.plan.held_out_images and step not in evaluated:
            self.validate(step)
        if step in self.plan.sample_steps:
            self.draw_samples()
        if step in self.plan.kept_adapter_steps:
            self.keep_adapter()
        if not self.is_over():
            self.observer.phase(Phase.TRAINING)

    def validate(self, step: int) -> None:
        """At step 0 the loss is the base's, whatever adapter the run started from."""
        base_alone = adapters_disabled(self.networks) if step == 0 else nullcontext()
        with self.eval_mode(), base_alone, torch.no_grad():
            conditioning = self.encode(self.held_out.texts)
            losses = self.held_out.measure(conditioning, self.device, self.observer)
        if not all(map(math.isfinite, losses)):
            raise self.nan_error("held-out loss", step)
        self.state.record_validation(step, losses)
        self.observer.validated(*self.state.validation_curve[-1])

    def draw_base_samples(self) -> None:
        """The base alone, shown beside the adapter in every grid."""
        if self.plan.sample_prompts:
            self.observer.phase(Phase.SAMPLING)
            with adapters_disabled(self.networks), self.runtime.autocast():
                self.gallery.draw(0, [self.cache.conditioning[prompt] for prompt in self.plan.sample_prompts])

    def draw_samples(self) -> None:
        self.observer.phase(Phase.SAMPLING)
        with self.eval_mode(), torch.no_grad():
            self.gallery.draw(self.state.step, self.encode(list(self.plan.sample_prompts)))

    def draw_requested(self, request: SampleRequest) -> None:
        """Changes no byte of the training: whatever it draws at random has a key of its own."""
        known = encode_prompts(self.base, self.plan, request.prompts) if self.encoders is None else None
        self.observer.phase(Phase.SAMPLING)
        with self.eval_mode(), torch.no_grad():
            conditioning = self.encode(list(request.prompts)) if known is None else known
            self.gallery.draw_requested(self.state.step, request, conditioning)
        self.observer.phase(Phase.TRAINING)

    def keep_adapter(self) -> None:
        """As it was just sampled: clients may take it instead of the one that is promoted at the end."""
        step, precision = self.state.step, self.runtime.precision
        cover, folder = self.gallery.find_cover(step), self.workdir / f"step-{step:06d}"
        with self.eval_mode():
            _, files = write_adapter(self.plan, precision, self.networks, step, cover, folder)
        self.observer.adapter(step, files)

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Within it the networks use the weights that would be exported now. A stop saves a checkpoint of the weights
        in training."""
        self.set_mode(training=False)
        try:
            with self.state.swapped_weights(self.state.weights()), self.runtime.autocast():
                yield
        except Stopped:
            self.save_if_requested()
            raise
        finally:
            self.set_mode(training=True)

    def set_mode(self, *, training: bool) -> None:
        for network in self.networks:
            network.module.train(training)

    def checkpoint_is_due(self) -> bool:
        if self.is_over():
            return True
        late = time.monotonic() - self.last_saved > SECONDS_BETWEEN_CHECKPOINTS
        return late or self.state.step % self.plan.checkpoint_every == 0

    def save(self) -> None:
        path = self.workdir / "checkpoints" / f"step-{self.state.step:06d}.safetensors"
        save_checkpoint(self.state, self.plan, path)
        self.last_saved = time.monotonic()
        self.observer.checkpoint(self.state.step, self.state.loss, path)

    # --- the end ---

    def finish(self) -> TrainResult:
        """Promotes the best weights, measures them, and writes their files."""
        state, plan, num_steps = self.state, self.plan, self.state.step
        self.promoted_step = promoted = state.promote()
        if not all(param.isfinite().all() for param in state.params.values()):
            raise self.nan_error("norm of the weights", promoted)
        if plan.sample_prompts and promoted not in plan.sample_steps:
            self.draw_samples()
        with self.eval_mode():
            scores = measure_scores(self.base, plan, self.cache, self.encode, self.networks, self.observer)
            cover = self.gallery.draw_cover(self.encode)
        self.observer.phase(Phase.EXPORTING)
        modules, files = write_adapter(plan, self.runtime.precision, self.networks, promoted, cover, self.workdir)
        outcome = Outcome(
            step=promoted,
            num_steps=num_steps,
            stopped_early=num_steps < plan.steps,
            final_loss=state.loss,
            held_out_losses=tuple(state.validation_curve),
            scores=scores,
            num_parameters=count_parameters(state.params),
            seconds_per_step=sorted(self.step_seconds)[len(self.step_seconds) // 2] if self.step_seconds else 0.0,
            seconds_per_image=self.gallery.seconds_per_image,
            peak_memory_bytes=peak_memory_bytes(self.device),
            num_cut=self.cache.num_cut,
        )
        return TrainResult(files, outcome, modules)
