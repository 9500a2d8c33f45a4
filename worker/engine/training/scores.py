"""The adapter's effect on the base.

**retention**, from 0 to 1, compares the base's images for neutral prompts with and without the adapter, from the same
seeds. 1: the latents are the same; 0: they differ as much as those of two different prompts.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from core.domain.memory import SAMPLES_AT_ONCE
from core.domain.outcome import Scores
from core.domain.plan import TrainPlan
from core.domain.states import Phase
from worker.engine.adapters import adapters_disabled
from worker.engine.families.protocol import Base, Conditioning, Network
from worker.engine.generation.sampling import sampling_params
from worker.engine.observer import Observer, heartbeat_or_stop, raise_if_stopped
from worker.engine.training.data import EMPTY, Cache


def score_retention(before_BD: torch.Tensor, after_BD: torch.Tensor) -> float:
    """From the samples' features (``Base.features``). Needs at least two prompts."""
    before, after = before_BD.double(), after_BD.double()
    moved = (after - before).square().mean(1).mean()
    distances = torch.cdist(before, before).square() / before.shape[1]
    apart = distances.sum() / (len(before) * (len(before) - 1))
    return float((1 - moved / apart).clamp(0, 1))


@torch.no_grad()
def measure_scores(
    base: Base,
    plan: TrainPlan,
    cache: Cache,
    encode: Callable[[list[str]], list[Conditioning]],
    networks: Sequence[Network],
    observer: Observer,
) -> Scores:
    """``encode`` uses the trained text encoders; the cache is from the base's own."""
    neutral = list(plan.neutral_prompts)
    if not plan.evaluation or len(neutral) < 2:
        return Scores()
    observer.phase(Phase.SCORING)
    sampler = ScoreSampler(base, plan, cache, observer)
    after = sampler.sample(encode(neutral))
    with adapters_disabled(networks):
        before = sampler.sample([cache.conditioning[text] for text in neutral])
    features = [base.features(torch.stack(rows)) for rows in (before, after)]
    return Scores(retention=score_retention(*features))


class ScoreSampler:
    """Draws the neutral prompts twice, and reports each image."""

    def __init__(self, base: Base, plan: TrainPlan, cache: Cache, observer: Observer) -> None:
        self._base, self._params, self._observer = base, sampling_params(plan), observer
        self._negative = cache.conditioning[EMPTY]
        self._done, self._total = 0, 2 * len(plan.neutral_prompts)

    def sample(self, conditioning: Sequence[Conditioning]) -> list[torch.Tensor]:
        """Latents (C, H, W), each from the seed of its place in the list."""
        rows: list[torch.Tensor] = []
        for start in range(0, len(conditioning), SAMPLES_AT_ONCE):
            chunk = conditioning[start : start + SAMPLES_AT_ONCE]
            seeds = list(range(start, start + len(chunk)))
            after_step = partial(heartbeat_or_stop, self._observer)
            rows += self._base.sample(chunk, self._negative, seeds, self._params, after_step)
            self._done += len(chunk)
            self._observer.unit(self._done, self._total)
            raise_if_stopped(self._observer)
        return rows
