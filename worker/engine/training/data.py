"""From images and captions to batches: framing, buckets, and an order that is a function of (seed, epoch)."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from core.domain.dataset import Bucket
from core.domain.plan import PlannedImage, TrainPlan
from worker.engine.draws import generator
from worker.engine.errors import BadInput
from worker.engine.families.protocol import Conditioning, Posterior, SizeConditioning

SHUFFLES_PER_CAPTION = 8
EMPTY = ""


@dataclass(frozen=True)
class Example:
    """One image as the loop reads it. ``mask`` (1, H, W), 0..1: the weight of each latent; ``weight``: of its loss."""

    posterior: Posterior
    size_conditioning: Conditioning
    mask: torch.Tensor | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Cache:
    """The loop's complete input: no encoder is needed any more, unless the text encoders are trained."""

    examples: Mapping[tuple[int, bool], Example]  # (index in the plan's images and then its class images, mirrored)
    conditioning: Mapping[str, Conditioning]  # by caption, from the base's own text encoders
    captions: Sequence[Sequence[str]]  # per image: its caption, or its shuffles
    num_cut: int  # images whose caption is longer than the encoded part


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


@dataclass(frozen=True)
class FramedImage:
    """``pixels`` (3, height, width), -1..1; ``mask`` (1, height, width), 0..1."""

    pixels: torch.Tensor
    mask: torch.Tensor | None
    framing: SizeConditioning


def frame_image(files: Mapping[str, Path], image: PlannedImage, mirrored: bool) -> FramedImage:
    """Scaled to cover its bucket, and cropped at the centre."""
    try:
        with Image.open(files[image.sha256], formats=["PNG"]) as source:
            original = (source.height, source.width)
            decoded = source.convert("RGBA" if image.masked else "RGB")
    except (KeyError, OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BadInput(f"The image {image.sha256[:12]} cannot be read ({error})") from error
    target = (image.bucket.height, image.bucket.width)
    scale = max(target[0] / original[0], target[1] / original[1])
    crop = (round(original[0] * scale - target[0]) // 2, round(original[1] * scale - target[1]) // 2)
    mask = _fit(decoded.getchannel("A"), image.bucket, mirrored) / 255.0 if image.masked else None
    pixels = _fit(decoded.convert("RGB"), image.bucket, mirrored) / 127.5 - 1.0
    return FramedImage(pixels, mask, SizeConditioning(original, crop, target))


def _fit(source: Image.Image, bucket: Bucket, mirrored: bool) -> torch.Tensor:
    """(channels, height, width), 0..255."""
    fitted = fit_to_bucket(source, bucket)
    array = np.array(ImageOps.mirror(fitted) if mirrored else fitted)
    return torch.from_numpy(array.reshape(bucket.height, bucket.width, -1)).permute(2, 0, 1).float()


def fit_to_bucket(source: Image.Image, bucket: Bucket) -> Image.Image:
    return ImageOps.fit(source, (bucket.width, bucket.height), method=Image.Resampling.LANCZOS)


class BatchOrder:
    """Which images make up micro-batch n. Every batch comes from one bucket; each epoch contains every image as often
    as it is repeated, in an order drawn from (seed, epoch). A bucket's last batch is filled up from the bucket's own
    start, so all batches are full if the bucket has that many images."""

    def __init__(self, plan: TrainPlan) -> None:
        self._seed, self._size = plan.seed, plan.batch_size
        rows: dict[Bucket, list[int]] = defaultdict(list)
        for index, image in enumerate(plan.images):
            if not image.held_out:
                rows[image.bucket] += [index] * image.repeats
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


def pick_batch(cache: Cache, plan: TrainPlan, order: BatchOrder, number: int) -> tuple[list[Example], list[str]]:
    """Micro-batch ``number`` and its captions: mirroring, shuffles and dropped captions are drawn again for each
    batch."""
    indices = order.batch_at(number)
    rng = generator(plan.seed, number, "pick")
    mirrored, variant, dropped = torch.rand((3, len(indices)), generator=rng).tolist()
    examples = [cache.examples[i, plan.flip and mirrored[k] < 0.5] for k, i in enumerate(indices)]
    texts = [
        EMPTY if dropped[k] < plan.caption_dropout else cache.captions[i][int(variant[k] * len(cache.captions[i]))]
        for k, i in enumerate(indices)
    ]
    return examples, texts


def with_size_conditioning(rows: Sequence[Conditioning], examples: Sequence[Example]) -> list[Conditioning]:
    """Each sample's text conditioning, joined with that of its image's size and crop."""
    return [{**row, **example.size_conditioning} for row, example in zip(rows, examples, strict=True)]
