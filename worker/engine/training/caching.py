"""Encodes a job's texts and images before its first step, into files that later attempts and the tenant's other jobs
reuse.

A file's name contains all that decides its numbers: the base, the text or the image and how it is framed, and the
machine's numerics. Each is encoded alone. So a job reads the same bytes, whoever wrote them.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file

from core.domain.plan import PlannedImage, TrainPlan
from worker.engine.adapter_files.formats import write_safetensors
from worker.engine.device import Runtime
from worker.engine.families.long_texts import limits_of
from worker.engine.families.protocol import Base, Conditioning, Posterior, SizeConditioning
from worker.engine.observer import Observer, heartbeat_or_stop, raise_if_stopped
from worker.engine.training.conditioning import ConditioningStore
from worker.engine.training.data import EMPTY, Cache, Example, FramedImage, frame_image, list_captions

ENCODING_VERSION = 1
"""To be raised when images are framed or texts read in another way."""


class Progress:
    """Counts the units of caching, and allows a stop between two of them."""

    def __init__(self, observer: Observer, total: int) -> None:
        self._observer, self._total, self._done = observer, total, 0

    def tick(self, count: int = 1) -> None:
        self._done += count
        if count:
            self._observer.unit(self._done, self._total)
        raise_if_stopped(self._observer)

    def heartbeat(self) -> None:
        """Within a unit that takes long."""
        heartbeat_or_stop(self._observer)


def start_caching(plan: TrainPlan, observer: Observer) -> Progress:
    """Of all that is encoded and drawn before the first step, so that the total never changes."""
    num_drawn = 0 if plan.class_images else plan.prior_num_images
    return Progress(observer, len(_list_texts(plan)) + len(_list_variants(plan)) + num_drawn)


def _list_texts(plan: TrainPlan) -> list[str]:
    trained = [text for row in _list_all_captions(plan) for text in row]
    trained += [image.plain_caption for image in plan.images]
    return list(dict.fromkeys([EMPTY, *plan.sample_prompts, *plan.prior_prompts, *plan.neutral_prompts, *trained]))


def _list_all_captions(plan: TrainPlan) -> list[list[str]]:
    return [list_captions(plan, image.caption, index) for index, image in enumerate(plan.images)]


def _list_variants(plan: TrainPlan) -> list[tuple[int, bool]]:
    return [
        (i, mirrored)
        for i, image in enumerate(plan.images + plan.class_images)
        for mirrored in ((False, True) if plan.flip and i < len(plan.images) and not image.held_out else (False,))
    ]


@dataclass(frozen=True)
class CacheFolder:
    """Files by the facts that decide their contents."""

    path: Path
    facts: tuple[object, ...]

    @classmethod
    def of(cls, path: Path, plan: TrainPlan, runtime: Runtime) -> "CacheFolder":
        """The text encoders run in fp32 whatever the plan's precision."""
        numerics = (runtime.device_type, runtime.device_name, runtime.cpu_threads, runtime.versions)
        libraries = [version(name) for name in ("pillow", "tokenizers")]
        return cls(path, (ENCODING_VERSION, plan.model_sha256, *numerics, *libraries))

    def place(self, ending: str, *facts: object) -> Path:
        digest = hashlib.sha256(json.dumps([*self.facts, *facts], sort_keys=True).encode())
        return self.path / f"{digest.hexdigest()}.{ending}"


def fill_cache(
    base: Base,
    plan: TrainPlan,
    runtime: Runtime,
    files: Mapping[str, Path],
    folder: Path,
    kept_folder: Path,
    progress: Progress,
) -> Cache:
    """Encodes every text and image that ``folder`` does not have yet. ``files`` maps an image's sha256 to its local
    file; ``kept_folder`` is the run's own, for what has no room in memory."""
    cached, captions = CacheFolder.of(folder, plan, runtime), _list_all_captions(plan)
    conditioning = _encode_texts(base, plan, cached, kept_folder, progress)
    examples = _encode_images(base, plan, runtime, files, cached, progress)
    num_cut = sum(any(text in conditioning.cut for text in row) for row in captions)
    return Cache(examples, conditioning, captions, num_cut)


@torch.no_grad()
def _encode_texts(
    base: Base, plan: TrainPlan, cached: CacheFolder, kept_folder: Path, progress: Progress
) -> ConditioningStore:
    """Each text's conditioning from the base's own encoders, which are opened only if one is missing."""
    limits = limits_of(plan)
    paths = {text: cached.place("conditioning", asdict(limits), text) for text in _list_texts(plan)}
    store = ConditioningStore(kept_folder)
    missing = [text for text, path in paths.items() if not store.read(text, path)]
    progress.tick(len(paths) - len(missing))
    if missing:
        encoders = base.open_text_encoders(limits)
        for text in missing:
            row, is_cut = encoders.encode([text])[0], encoders.is_cut(text)
            store.add(text, paths[text], row, encoders.conditioning_dtype, is_cut=is_cut)
            progress.tick()
        del encoders
        base.free()
    return store


@torch.no_grad()
def encode_prompts(base: Base, plan: TrainPlan, prompts: Sequence[str]) -> list[Conditioning]:
    """Of texts that the plan does not have, as those that it has, by the base's own encoders."""
    encoders = base.open_text_encoders(limits_of(plan))
    rows = [encoders.encode([prompt])[0] for prompt in prompts]
    del encoders
    base.free()
    return [{name: tensor.to("cpu", torch.float32) for name, tensor in row.items()} for row in rows]


def _encode_images(
    base: Base, plan: TrainPlan, runtime: Runtime, files: Mapping[str, Path], cached: CacheFolder, progress: Progress
) -> dict[tuple[int, bool], Example]:
    images, variants, precision = plan.images + plan.class_images, _list_variants(plan), runtime.encoding_precision
    paths = {
        (i, mirrored): cached.place("latents", precision, *_describe(images[i]), mirrored) for i, mirrored in variants
    }
    found = {variant: _read_example(base, path) for variant, path in paths.items()}
    missing = [variant for variant, example in found.items() if example is None]
    progress.tick(len(variants) - len(missing))
    framed: list[FramedImage] = []

    def open_images() -> Iterator[torch.Tensor]:
        for index, mirrored in missing:
            framed.append(frame_image(files, images[index], mirrored))
            yield framed[-1].pixels

    encoded: Iterator[Posterior] = base.encode_images(open_images()) if missing else iter(())
    with runtime.autocast() if precision == "bf16" else nullcontext():
        for variant, posterior in zip(missing, encoded, strict=True):
            _write_example(paths[variant], posterior, framed.pop())
            found[variant] = _read_example(base, paths[variant])
            progress.tick()
    return {
        variant: replace(example, weight=images[variant[0]].weight)
        for variant, example in found.items()
        if example is not None
    }


def _describe(image: PlannedImage) -> Sequence[object]:
    return image.sha256, image.bucket.width, image.bucket.height, image.masked


def _write_example(path: Path, posterior: Posterior, framed: FramedImage) -> None:
    framing = framed.framing
    tensors = {
        "mean": posterior.mean,
        "std": posterior.std,
        "framing": torch.tensor([*framing.original, *framing.crop, *framing.target]),
    }
    if framed.mask is not None:
        size = posterior.mean.shape[1:]
        tensors["mask"] = F.interpolate(framed.mask[None], size, mode="area")[0]
    write_safetensors(path, tensors, {})


def _read_example(base: Base, path: Path) -> Example | None:
    """None if there is none, or none that can be read: it is then computed again."""
    try:
        tensors = load_file(path)
        os.utime(path)  # the least recently used files are deleted first when space runs short
        a, b, c, d, e, f = tensors["framing"].tolist()
        framing = base.encode_size_conditioning(SizeConditioning((a, b), (c, d), (e, f)))
        return Example(Posterior(tensors["mean"], tensors["std"]), framing, tensors.get("mask"))
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
