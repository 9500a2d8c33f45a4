"""What an adapter learned, and what it cost: two scores from 0 to 1, measured on the base that it was made for.

- **retention**: the base's answers to neutral prompts, with the adapter and without it, from the same seeds. 1: the
  latents are the same; 0: they are as far apart as the answers to two different prompts.
- **concept**: of the pictures drawn for the held-out captions, the share that lies nearer to the set's pictures than to
  the base's own for their captions, along the line between the means of the two, in the features of the denoiser's
  first block upwards (DIFT, arXiv 2306.03881: they carry what stands where, and need no other model). The means are
  over the held-out pictures, and over others of the set where those are few: two alone say more of their backgrounds
  and poses than of the concept.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F

from core.domain.estimate import NUM_CONCEPT_PICTURES
from core.domain.outcome import Scores
from core.domain.plan import TrainPlan
from core.domain.states import Phase
from worker.training.adapters import silenced
from worker.training.data import EMPTY, Cache
from worker.training.draws import generator
from worker.training.families.protocol import Base, Conditioning, Network
from worker.training.observer import Observer, go_on, heed
from worker.training.sampling import plan_framing, plan_sampling

FEATURE_TIMESTEP = 0.26  # of the schedule: where DIFT finds meaning rather than texture
FEATURE_GRID = 8  # places along each side
NUM_NOISES = 4
PICTURES_AT_ONCE = 4


def score_retention(before_BCHW: torch.Tensor, after_BCHW: torch.Tensor) -> float:
    """Needs two prompts at least."""
    before, after = before_BCHW.flatten(1).double(), after_BCHW.flatten(1).double()
    moved = (after - before).square().mean(1).mean()
    distances = torch.cdist(before, before).square() / before.shape[1]
    apart = distances.sum() / (len(before) * (len(before) - 1))
    return float((1 - moved / apart).clamp(0, 1))


def score_concept(drawn_BD: torch.Tensor, base_BD: torch.Tensor, shown_BD: torch.Tensor) -> float:
    """Features of the adapter's pictures, of the base's for the captions of ``shown``, and of the pictures that have
    those captions. The mean takes out what the captions share with any picture: a background, a size."""
    base, shown = base_BD.mean(dim=0), shown_BD.mean(dim=0)
    return float((((drawn_BD - (base + shown) / 2) @ (shown - base)) > 0).double().mean())


@torch.no_grad()
def measure_scores(
    base: Base,
    plan: TrainPlan,
    cache: Cache,
    encode: Callable[[list[str]], list[Conditioning]],
    networks: Sequence[Network],
    device: torch.device,
    observer: Observer,
) -> Scores:
    """``encode`` gives what the trained text encoders say; the cache has what the base's own do."""
    if not plan.evaluation:
        return Scores()
    observer.phase(Phase.SCORING)
    judge = Judge(base, plan, cache, device, observer)
    neutral, captions = list(plan.neutral_prompts), judge.captions
    after, drawn = judge.draw(encode(neutral)), judge.draw(encode(captions))
    with silenced(networks):
        before = judge.draw([cache.conditioning[text] for text in neutral])
        plain = judge.draw([cache.conditioning[text] for text in judge.shown_captions])
        concept = score_concept(*(describe(base, judge.told, rows, device) for rows in (drawn, plain, judge.shown)))
    retention = score_retention(torch.stack(before), torch.stack(after)) if len(neutral) > 1 else None
    return Scores(retention=retention, concept=concept, concept_reference=judge.reference)


class Judge:
    """Draws pictures for the scores. ``shown``: what the adapter's pictures are held against."""

    def __init__(self, base: Base, plan: TrainPlan, cache: Cache, device: torch.device, observer: Observer) -> None:
        self._base, self._plan, self._cache, self._device, self._observer = base, plan, cache, device, observer
        held_out = [i for i, image in enumerate(plan.images) if image.held_out]
        trained = [i for i, image in enumerate(plan.images) if not image.held_out]
        self.reference = "held-out pictures" if held_out else "training pictures"
        chosen = (held_out + trained)[:NUM_CONCEPT_PICTURES]
        self.shown = [cache.examples[index, False].posterior.mean for index in chosen]
        self.shown_captions = [cache.captions[index][0] for index in chosen]
        captions = [cache.captions[index][0] for index in held_out or trained]
        self.captions = [captions[index % len(captions)] for index in range(NUM_CONCEPT_PICTURES)]
        self.told = {**cache.conditioning[EMPTY], **plan_framing(base, plan)}
        drawn = len(self.captions) + len(self.shown_captions) + 2 * len(plan.neutral_prompts)
        self._done, self._total = 0, drawn

    def draw(self, told: Sequence[Conditioning]) -> list[torch.Tensor]:
        """Latents (C, H, W), each from the seed of its place in the list."""
        rows: list[torch.Tensor] = []
        empty, how = self._cache.conditioning[EMPTY], plan_sampling(self._plan)
        for start in range(0, len(told), PICTURES_AT_ONCE):
            chunk = told[start : start + PICTURES_AT_ONCE]
            seeds = list(range(start, start + len(chunk)))
            rows += self._base.sample(chunk, empty, seeds, how, partial(go_on, self._observer))
            self._tick(len(chunk))
        return rows

    def _tick(self, count: int) -> None:
        self._done += count
        self._observer.unit(self._done, self._total)
        heed(self._observer)


def describe(base: Base, told: Conditioning, latents: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    """(B, D) float64, of latents (C, H, W) of any shape: the mean over NUM_NOISES draws, on one grid of places.
    ``told``: what the denoiser is told of each, which is nothing."""
    return torch.stack([_describe_one(base, told, row, device) for row in latents]).double()


def _describe_one(base: Base, told: Conditioning, latents_CHW: torch.Tensor, device: torch.device) -> torch.Tensor:
    kept: list[torch.Tensor] = []
    latents = latents_CHW.expand(NUM_NOISES, *latents_CHW.shape)
    noise = torch.randn(latents.shape, generator=generator(0, 0, "features"))
    timesteps = torch.full((NUM_NOISES,), int(FEATURE_TIMESTEP * base.process.num_timesteps))
    latents, noise, timesteps = (part.to(device) for part in (latents, noise, timesteps))
    handle = base.denoiser.feature_layer.register_forward_hook(lambda _layer, _given, out: kept.append(out))
    try:
        base.predict(base.process.add_noise(latents, noise, timesteps), timesteps, [told] * NUM_NOISES)
    finally:
        handle.remove()
    return F.adaptive_avg_pool2d(kept[0].float(), FEATURE_GRID).mean(dim=0).flatten().cpu()
