"""Prior preservation: pictures of the class, to which the adapter must not matter. The base draws them itself, unless
the set has regularisation pictures.

DreamBooth (arXiv 2208.12242, section 3.3) adds a second loss on such pictures. Its target there is their noise;
here it is the base's own answer to the same noisy picture, so a pupil that changed nothing has a loss of exactly
zero, and the gradient carries none of the noise's variance.

Pictures that the base draws stay latents, since nothing else is needed of them, and are kept per base, prompt and way
of drawing in a folder that jobs share.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from core.domain.plan import TrainPlan
from worker.engine.adapter_files.formats import write_safetensors
from worker.engine.device import Runtime
from worker.engine.draws import generator
from worker.engine.families.protocol import Base, Conditioning, Posterior
from worker.engine.generation.sampling import plan_framing, plan_sampling
from worker.engine.observer import Observer, go_on, heed
from worker.engine.training.data import EMPTY, Cache, Example

PICTURES_AT_ONCE = 8
EMPTY_PROMPTS, OTHER_PROMPTS = 0.25, 0.35


@dataclass(frozen=True)
class Prior:
    """The class pictures, and the prompt that each was drawn for."""

    examples: list[Example]
    texts: list[str]

    def pick(self, plan: TrainPlan, number: int) -> tuple[list[Example], list[str]]:
        """Those of a micro-batch, drawn anew for each. Some are told nothing: guidance steers away from the answer to
        an empty prompt, so if that drifts towards the concept, every picture suffers. Some are told any class prompt,
        be there a picture for it or not: where there is much noise the text decides, so more is held for no more
        pictures, and the base has an answer to that too."""
        rng, count = generator(plan.seed, number, "prior-pick"), plan.class_pictures_per_batch
        rows = self._choose_alike(torch.randint(len(self.examples), (count,), generator=rng).tolist())
        others = torch.randint(len(plan.prior_prompts), (count,), generator=rng).tolist()
        lots = torch.rand(count, generator=rng).tolist()
        chosen = zip(rows, others, lots, strict=True)
        told = [_tell(self.texts[row], plan.prior_prompts[other], lot) for row, other, lot in chosen]
        return [self.examples[row] for row in rows], told

    def _choose_alike(self, rows: list[int]) -> list[int]:
        """The first, and others of its size in place of those of another: a batch has one size."""
        size = self.examples[rows[0]].posterior.mean.shape
        alike = [index for index, example in enumerate(self.examples) if example.posterior.mean.shape == size]
        return [rows[0], *(alike[row % len(alike)] for row in rows[1:])]


def open_prior(base: Base, plan: TrainPlan, runtime: Runtime, cache: Cache, folder: Path, observer: Observer) -> Prior:
    """The regularisation pictures of the set, as often as each is repeated; or else what the base draws."""
    if not plan.class_images:
        return draw_prior(base, plan, runtime, cache.conditioning, folder, observer)
    indices = [index for index, image in enumerate(plan.class_images) for _ in range(image.repeats)]
    examples = [cache.examples[len(plan.images) + index, False] for index in indices]
    return Prior(examples, [plan.class_images[index].caption for index in indices])


def _tell(own: str, other: str, lot: float) -> str:
    if lot < EMPTY_PROMPTS:
        return EMPTY
    return other if lot < EMPTY_PROMPTS + OTHER_PROMPTS else own


def draw_prior(
    base: Base,
    plan: TrainPlan,
    runtime: Runtime,
    conditioning: Mapping[str, Conditioning],
    folder: Path,
    observer: Observer,
) -> Prior:
    """The prompts in turn. Drawn in fixed chunks, so what one job left in ``folder`` has the bytes that another
    would have made."""
    texts = [plan.prior_prompts[index % len(plan.prior_prompts)] for index in range(plan.prior_num_images)]
    framing = plan_framing(base, plan)
    examples: list[Example] = []
    for start in range(0, len(texts), PICTURES_AT_ONCE):
        chunk = texts[start : start + PICTURES_AT_ONCE]
        latents_BCHW = _draw_chunk(base, plan, runtime, conditioning, folder, start, chunk, observer)
        examples += [Example(Posterior(row, torch.zeros_like(row)), framing) for row in latents_BCHW]
        observer.unit(len(examples), len(texts))
        heed(observer)
    return Prior(examples, texts)


def _draw_chunk(
    base: Base,
    plan: TrainPlan,
    runtime: Runtime,
    conditioning: Mapping[str, Conditioning],
    folder: Path,
    start: int,
    texts: list[str],
    observer: Observer,
) -> torch.Tensor:
    how = plan_sampling(plan)
    facts = [plan.model_sha256, runtime.model_dump(), start, texts, plan.max_token_length, plan.trigger, vars(how)]
    path = folder / f"{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()}.prior"
    try:
        known = load_file(path)["latents"]
        path.touch()  # what nobody used for long goes first when there is too much
        return known
    except (OSError, SafetensorError, KeyError):
        pass
    seeds = range(start, start + len(texts))
    told = [conditioning[text] for text in texts]
    latents_BCHW = base.sample(told, conditioning[EMPTY], list(seeds), how, partial(go_on, observer))
    write_safetensors(path, {"latents": latents_BCHW}, {})
    return latents_BCHW
