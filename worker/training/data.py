"""From pictures and captions to batches: caching, buckets, and an order that is a function of (seed, epoch)."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.torch import load_file

from core.domain.dataset import Bucket
from core.domain.plan import PlannedImage, TrainPlan
from worker.training.draws import generator
from worker.training.errors import BadInput
from worker.training.families.protocol import Base, Conditioning, Posterior
from worker.training.formats import write_safetensors
from worker.training.observer import Observer, Stopped

SHUFFLES_PER_CAPTION = 8
EMPTY = ""


@dataclass(frozen=True)
class Cache:
    """Everything the loop reads: no encoder is needed any more."""

    posteriors: Mapping[tuple[int, bool], Posterior]  # (image's index, mirrored)
    conditioning: Mapping[str, Conditioning]  # by caption
    captions: Sequence[Sequence[str]]  # per image: its caption, or its shuffles


class Progress:
    """Counts the units of caching and lets a stop interrupt it between two of them."""

    def __init__(self, observer: Observer, total: int) -> None:
        self._observer, self._total, self._done = observer, total, 0

    def tick(self) -> None:
        self._done += 1
        self._observer.unit(self._done, self._total)
        if self._observer.should_stop():
            raise Stopped


def fill_cache(base: Base, plan: TrainPlan, files: Mapping[str, Path], folder: Path, observer: Observer) -> Cache:
    """Encodes every caption and picture once. ``files`` maps an image's sha256 to its local file. Latents that
    an earlier attempt left in ``folder`` are taken as they are."""
    captions = [list_captions(plan, image.caption, index) for index, image in enumerate(plan.images)]
    texts = list(dict.fromkeys([EMPTY, *plan.sample_prompts, *(text for row in captions for text in row)]))
    variants = [
        (i, mirrored) for i in range(len(plan.images)) for mirrored in ((False, True) if plan.flip else (False,))
    ]
    progress = Progress(observer, len(texts) + len(variants))
    conditioning = {}
    for text, encoded in zip(texts, base.encode_texts(texts), strict=True):
        conditioning[text] = encoded
        progress.tick()
    posteriors = _cache_latents(base, plan, files, variants, folder, progress)
    return Cache(posteriors, conditioning, captions)


def list_captions(plan: TrainPlan, caption: str, index: int) -> list[str]:
    """The caption; with shuffle, SHUFFLES_PER_CAPTION orders of its comma-separated tags, the first
    ``keep_tokens`` left in place (as sd-scripts' shuffle_caption)."""
    tags = [tag.strip() for tag in caption.split(",")]
    fixed, loose = tags[: plan.caption_keep_tokens], tags[plan.caption_keep_tokens :]
    if not plan.caption_shuffle or len(loose) < 2:
        return [caption]
    rng = generator(plan.seed, index, "shuffle")
    orders = [torch.randperm(len(loose), generator=rng).tolist() for _ in range(SHUFFLES_PER_CAPTION)]
    return [", ".join([*fixed, *(loose[i] for i in order)]) for order in orders]


def _cache_latents(
    base: Base,
    plan: TrainPlan,
    files: Mapping[str, Path],
    variants: Sequence[tuple[int, bool]],
    folder: Path,
    progress: Progress,
) -> dict[tuple[int, bool], Posterior]:
    paths = {variant: folder / _cache_name(plan, *variant) for variant in variants}
    found = {variant: _read_posterior(path) for variant, path in paths.items()}
    missing = [variant for variant, posterior in found.items() if posterior is None]
    for _ in range(len(variants) - len(missing)):
        progress.tick()
    pictures = (_open_picture(files, plan.images[i], mirrored) for i, mirrored in missing)
    posteriors = {variant: posterior for variant, posterior in found.items() if posterior is not None}
    encoded: Iterator[Posterior] = base.encode_pictures(pictures) if missing else iter(())
    for variant, posterior in zip(missing, encoded, strict=True):
        write_safetensors(paths[variant], {"mean": posterior.mean, "std": posterior.std}, {})
        posteriors[variant] = posterior
        progress.tick()
    return posteriors


def _cache_name(plan: TrainPlan, index: int, mirrored: bool) -> str:
    image = plan.images[index]
    facts = f"{plan.model_sha256}:{image.sha256}:{image.bucket.width}x{image.bucket.height}:{mirrored}"
    return f"{hashlib.sha256(facts.encode()).hexdigest()}.latents"


def _read_posterior(path: Path) -> Posterior | None:
    """None where there is none, or none that can be read: it is then made again."""
    try:
        tensors = load_file(path)
        return Posterior(tensors["mean"], tensors["std"])
    except (OSError, SafetensorError, KeyError):
        return None


def _open_picture(files: Mapping[str, Path], image: PlannedImage, mirrored: bool) -> torch.Tensor:
    """(3, height, width), -1..1: scaled to cover its bucket, and cropped at the centre."""
    try:
        with Image.open(files[image.sha256], formats=["PNG"]) as source:
            picture = fit_to_bucket(source.convert("RGB"), image.bucket)
    except (KeyError, OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BadInput(f"The image {image.sha256[:12]} cannot be read ({error})") from error
    if mirrored:
        picture = ImageOps.mirror(picture)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 127.5 - 1.0


def fit_to_bucket(picture: Image.Image, bucket: Bucket) -> Image.Image:
    return ImageOps.fit(picture, (bucket.width, bucket.height), method=Image.Resampling.LANCZOS)


class BatchOrder:
    """Which images make up micro-batch n. Every batch comes from one bucket; each epoch sees every image, in an
    order drawn from (seed, epoch). A bucket's last batch is filled up from its own beginning, so all batches
    are full wherever the bucket has that many images."""

    def __init__(self, plan: TrainPlan) -> None:
        self._seed, self._size = plan.seed, plan.batch_size
        rows: dict[Bucket, list[int]] = defaultdict(list)
        for index, image in enumerate(plan.images):
            rows[image.bucket].append(index)
        self._buckets = [rows[bucket] for bucket in sorted(rows, key=lambda b: (b.width, b.height))]
        self.batches_per_epoch = sum(math.ceil(len(row) / self._size) for row in self._buckets)
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    def batch_at(self, number: int) -> list[int]:
        """Indices into the plan's images."""
        epoch, position = divmod(number, self.batches_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._draw_epoch(epoch))
        return self._epoch[1][position]

    def _draw_epoch(self, epoch: int) -> list[list[int]]:
        rng = generator(self._seed, epoch, "order")
        batches = []
        for row in self._buckets:
            shuffled = [row[i] for i in torch.randperm(len(row), generator=rng).tolist()]
            full = shuffled + shuffled[: -len(shuffled) % self._size]
            batches += [full[i : i + self._size] for i in range(0, len(full), self._size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=rng).tolist()]


def pick_batch(
    cache: Cache, plan: TrainPlan, order: BatchOrder, number: int
) -> tuple[list[Posterior], list[Conditioning]]:
    """Micro-batch ``number``: which mirror image, which shuffle and which captions are dropped is drawn anew."""
    indices = order.batch_at(number)
    rng = generator(plan.seed, number, "pick")
    mirrored, variant, dropped = torch.rand((3, len(indices)), generator=rng).tolist()
    posteriors = [cache.posteriors[i, plan.flip and mirrored[k] < 0.5] for k, i in enumerate(indices)]
    texts = [
        EMPTY if dropped[k] < plan.caption_dropout else cache.captions[i][int(variant[k] * len(cache.captions[i]))]
        for k, i in enumerate(indices)
    ]
    return posteriors, [cache.conditioning[text] for text in texts]
