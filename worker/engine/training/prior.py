"""Prior preservation: class images, on which the adapter must not change the prediction. The base draws them itself,
unless the set has regularisation images.

DreamBooth (arXiv 2208.12242, section 3.3) adds a second loss on such images. Its target there is their noise; here it
is the base's own prediction for the same noisy image, so an adapter that changes nothing has a loss of exactly zero,
and the gradient has none of the noise's variance.

A style's own images are class images too, by their captions without the trigger, half of the time: on the very same
input the trigger is to make the difference.

Images that the base draws stay latents, since nothing else of them is needed, and are stored per base, prompt and
sampling options in a folder that jobs share.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from core.domain.memory import CLASS_IMAGES_AT_ONCE
from core.domain.plan import TrainPlan
from worker.engine.adapter_files.formats import write_safetensors
from worker.engine.device import Runtime
from worker.engine.draws import generator
from worker.engine.families.protocol import Base, Conditioning, Posterior
from worker.engine.generation.sampling import plan_size_conditioning, sampling_params
from worker.engine.training.caching import Progress
from worker.engine.training.data import EMPTY, Cache, Example

EMPTY_PROMPTS, OTHER_PROMPTS = 0.25, 0.35
OWN_BATCHES = 0.5
"""Of a style's own images."""


@dataclass(frozen=True)
class Prior:
    """The class images, and the prompt that each was drawn for; and those of the set's own images that are class images
    too, with their plain captions."""

    examples: list[Example]
    texts: list[str]
    own: Sequence[tuple[Example, str]] = ()

    def pick(self, plan: TrainPlan, number: int) -> tuple[list[Example], list[str]]:
        """The class images of micro-batch ``number``, with their prompts. Some samples get the empty prompt: guidance
        steers away from the prediction for it, so if that drifts towards the concept, every image suffers. Some get a
        random class prompt, even one without an image: at high noise the prediction depends on the text alone, so this
        preserves more of the base at no extra cost."""
        rng, count = generator(plan.seed, number, "prior-pick"), plan.class_images_per_batch
        if self.own and torch.rand(1, generator=generator(plan.seed, number, "prior-own")).item() < OWN_BATCHES:
            rows = _choose_alike([example for example, _ in self.own], count, rng)
            return [self.own[row][0] for row in rows], [self.own[row][1] for row in rows]
        rows = _choose_alike(self.examples, count, rng)
        others = torch.randint(len(plan.prior_prompts), (count,), generator=rng).tolist()
        lots = torch.rand(count, generator=rng).tolist()
        chosen = zip(rows, others, lots, strict=True)
        texts = [_choose_text(self.texts[row], plan.prior_prompts[other], lot) for row, other, lot in chosen]
        return [self.examples[row] for row in rows], texts


def _choose_alike(examples: Sequence[Example], count: int, rng: torch.Generator) -> list[int]:
    """At random: one, and others of its size, for a batch has one size."""
    rows = torch.randint(len(examples), (count,), generator=rng).tolist()
    size = examples[rows[0]].posterior.mean.shape
    alike = [index for index, example in enumerate(examples) if example.posterior.mean.shape == size]
    return [rows[0], *(alike[row % len(alike)] for row in rows[1:])]


def open_prior(base: Base, plan: TrainPlan, runtime: Runtime, cache: Cache, folder: Path, progress: Progress) -> Prior:
    """The set's regularisation images, each as often as it is repeated; otherwise images that the base draws."""
    if not plan.class_images:
        drawn = draw_prior(base, plan, runtime, cache.conditioning, folder, progress)
        own = [(cache.examples[i, False], each.plain_caption) for i, each in enumerate(plan.images)]
        is_trained = [bool(each.plain_caption) and not each.held_out for each in plan.images]
        return replace(drawn, own=list(compress(own, is_trained)))
    indices = [index for index, image in enumerate(plan.class_images) for _ in range(image.repeats)]
    examples = [cache.examples[len(plan.images) + index, False] for index in indices]
    return Prior(examples, [plan.class_images[index].caption for index in indices])


def _choose_text(own: str, other: str, lot: float) -> str:
    if lot < EMPTY_PROMPTS:
        return EMPTY
    return other if lot < EMPTY_PROMPTS + OTHER_PROMPTS else own


def draw_prior(
    base: Base,
    plan: TrainPlan,
    runtime: Runtime,
    conditioning: Mapping[str, Conditioning],
    folder: Path,
    progress: Progress,
) -> Prior:
    """The prompts in turn. Drawn in fixed chunks, so that every job would write the same bytes into ``folder``."""
    texts = [plan.prior_prompts[index % len(plan.prior_prompts)] for index in range(plan.prior_num_images)]
    framing = plan_size_conditioning(base, plan)
    examples: list[Example] = []
    for start in range(0, len(texts), CLASS_IMAGES_AT_ONCE):
        chunk = texts[start : start + CLASS_IMAGES_AT_ONCE]
        latents_BCHW = _draw_chunk(base, plan, runtime, conditioning, folder, start, chunk, progress)
        examples += [Example(Posterior(row, torch.zeros_like(row)), framing) for row in latents_BCHW]
        progress.tick(len(chunk))
    return Prior(examples, texts)


def _draw_chunk(
    base: Base,
    plan: TrainPlan,
    runtime: Runtime,
    conditioning: Mapping[str, Conditioning],
    folder: Path,
    start: int,
    texts: list[str],
    progress: Progress,
) -> torch.Tensor:
    params = sampling_params(plan)
    facts = [plan.model_sha256, runtime.model_dump(), start, texts, plan.max_token_length, plan.trigger, vars(params)]
    path = folder / f"{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()}.prior"
    try:
        cached = load_file(path)["latents"]
        path.touch()  # the least recently used files are deleted first when space runs short
        return cached
    except (OSError, SafetensorError, KeyError):
        pass
    seeds = range(start, start + len(texts))
    prompts = [conditioning[text] for text in texts]
    latents_BCHW = base.sample(prompts, conditioning[EMPTY], list(seeds), params, progress.heartbeat)
    write_safetensors(path, {"latents": latents_BCHW}, {})
    return latents_BCHW
