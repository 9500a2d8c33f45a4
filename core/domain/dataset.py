"""The rules for images and captions, and the manifest that results.

A ready dataset never changes: its manifest lists every image with its hash, and has a hash of its own.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field

from core.domain.artifacts import Artifact
from core.domain.base import Frozen
from core.domain.counts import counted
from core.domain.file_counts import FileCounts
from core.domain.image_formats import SUFFIXES
from core.domain.tokens import MAX_TOKEN_LENGTH, count_least_tokens

IMAGE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
CAPTION_SUFFIXES = (".txt", ".caption")
MAX_CAPTION_CHARS = 2000
MIN_SIDE = 16
FEW_IMAGES = 5
BLURRY_BELOW = 12.0
NEAR_DUPLICATE_BITS = 5
THUMBNAIL_SIDE = 256
"""The longest side of a thumbnail, in pixels."""
MAX_FILES_LISTED = 100
"""The most files that one warning names."""

WarningCode = Literal[
    "few-images", "near-duplicates", "blurry", "small-images", "missing-captions", "long-captions",
    "unused-captions", "left-out", "unmatched-rows", "guessed-rows", "caption-encoding", "many-tokens",
    "first-frame", "unusable-profile", "alpha-mask", "names-guessed", "metadata-problems",
]  # fmt: skip
Role = Literal["subject", "class"]
"""``class``: a regularisation image, which shows what must not change."""


class ManifestImage(Frozen):
    """One usable image. ``key`` is its re-encoded PNG in storage, upright, without metadata: RGB, or RGBA if it is
    ``masked``: alpha then weights each pixel. ``repeats``: how often it occurs in an epoch. ``thumbnail``: a WebP; None
    if the image is no larger, or was stored by a version that did not make thumbnails."""

    name: str
    key: str
    sha256: str
    size: int
    width: int
    height: int
    caption: str | None
    dhash: str
    sharpness: float
    masked: bool = False
    role: Role = "subject"
    repeats: int = 1
    thumbnail: Artifact | None = None


class LeftOut(Frozen):
    file: str
    reason: str


class ReportWarning(Frozen):
    code: WarningCode
    message: str
    files: tuple[str, ...] = ()


class DatasetReport(Frozen):
    """The result for every file, the recognized layout (``notes``), and possible problems for training. Old reports
    have no ``files``."""

    num_files: int
    num_images: int
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[ReportWarning, ...] = ()
    notes: tuple[str, ...] = Field((), description="The recognized layout, such as kohya's folders.")
    files: FileCounts | None = None


class DatasetManifest(Frozen):
    images: tuple[ManifestImage, ...]

    @property
    def subjects(self) -> tuple[ManifestImage, ...]:
        return tuple(image for image in self.images if image.role == "subject")

    @property
    def class_images(self) -> tuple[ManifestImage, ...]:
        return tuple(image for image in self.images if image.role == "class")

    def content_hash(self) -> str:
        """SHA-256 over names, pixels' hashes and captions, in canonical JSON; and over role and repeats if a layout
        gave them."""
        rows = [_hashed(image) for image in self.images]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def _hashed(image: ManifestImage) -> list[str | int | None]:
    row: list[str | int | None] = [image.name, image.sha256, image.caption]
    return row if (image.role, image.repeats) == ("subject", 1) else [*row, image.role, image.repeats]


class Bucket(Frozen):
    """A training size in pixels."""

    width: int
    height: int


def is_image_name(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_caption_name(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in CAPTION_SUFFIXES


def is_archive_name(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def stem_of(name: str) -> str:
    """The path without its suffix: pairs ``x.txt`` with ``x.png``."""
    return str(PurePosixPath(name).with_suffix(""))


def clean_caption(text: str) -> str | None:
    """One line, at most MAX_CAPTION_CHARS; None if nothing is left."""
    line = " ".join(text.replace("\x00", " ").split())
    return line[:MAX_CAPTION_CHARS].rstrip() or None


@lru_cache(maxsize=4096)
def choose_bucket(width: int, height: int, resolution: int, step: int) -> Bucket:
    """The size whose aspect is nearest to the image's among those of at most ``resolution``² pixels.

    Sides are multiples of ``step``, from half to twice the resolution (as kohya's sd-scripts and NovelAI's
    aspect-ratio bucketing do).
    """
    aspect = math.log(width / height)
    return min(list_buckets(resolution, step), key=lambda b: (abs(math.log(b.width / b.height) - aspect), -b.width))


def list_cut_sides(width: int, height: int, bucket: Bucket) -> tuple[float, float]:
    """What training leaves out of an image that is scaled to cover its bucket and cropped at the centre: the fraction
    of its width, half of it on either side, and that of its height. One of them is 0."""
    scale = max(bucket.width / width, bucket.height / height)
    return 1 - bucket.width / (width * scale), 1 - bucket.height / (height * scale)


@lru_cache(maxsize=256)
def list_buckets(resolution: int, step: int) -> tuple[Bucket, ...]:
    area = resolution * resolution
    buckets = set()
    for side in range(max(step, resolution // 2 // step * step), resolution * 2 + 1, step):
        other = min(area // side // step * step, resolution * 2)
        if other >= step:
            buckets |= {(side, other), (other, side)}
    buckets.add((resolution, resolution))
    return tuple(Bucket(width=w, height=h) for w, h in sorted(buckets))


def near_duplicates(images: Iterable[ManifestImage]) -> list[tuple[str, str]]:
    """Pairs whose difference hashes are at most NEAR_DUPLICATE_BITS of 64 apart."""
    rows = [(image.name, int(image.dhash, 16)) for image in images]
    return [
        (a, b)
        for index, (a, hash_a) in enumerate(rows)
        for b, hash_b in rows[index + 1 :]
        if (hash_a ^ hash_b).bit_count() <= NEAR_DUPLICATE_BITS
    ]


def write_report(
    num_files: int,
    manifest: DatasetManifest,
    left_out: Iterable[LeftOut],
    unused_captions: Iterable[str],
    *,
    files: FileCounts | None = None,
    noted: Iterable[ReportWarning] = (),
    notes: Iterable[str] = (),
) -> DatasetReport:
    """The report of a set. It never refuses: the caller does, if no image is left.

    ``noted``: warnings from reading the files; ``notes``: the recognized layout.
    """
    images, subjects, out = manifest.images, manifest.subjects, tuple(left_out)
    checks: list[tuple[WarningCode, str, tuple[str, ...]]] = [
        (
            "few-images",
            f"{counted(len(subjects), 'image is', 'images are')} few for training: {FEW_IMAGES} or more "
            "give better results.",
            tuple(i.name for i in subjects) if len(subjects) < FEW_IMAGES else (),
        ),
        (
            "near-duplicates",
            "These look almost the same: the set has less variety than its size suggests.",
            tuple(sorted({name for pair in near_duplicates(images) for name in pair})),
        ),
        (
            "blurry",
            "These look blurred; the adapter learns the blur.",
            tuple(i.name for i in images if is_blurry(i)),
        ),
        (
            "small-images",
            "These are smaller than 64 pixels and will be enlarged.",
            tuple(i.name for i in images if min(i.width, i.height) < 64),
        ),
        (
            "missing-captions",
            "These have no caption: the job's trigger is used instead.",
            tuple(i.name for i in subjects if i.caption is None),
        ),
        (
            "long-captions",
            f"These captions are longer than {MAX_CAPTION_CHARS:,} characters; the rest was cut off.",
            tuple(i.name for i in images if i.caption is not None and len(i.caption) >= MAX_CAPTION_CHARS),
        ),
        (
            "many-tokens",
            f"These captions have more than {MAX_TOKEN_LENGTH} tokens, even if each word is only one; the "
            "rest is not trained. The trigger is kept, wherever it is.",
            tuple(i.name for i in images if i.caption and count_least_tokens(i.caption) > MAX_TOKEN_LENGTH),
        ),
        (
            "unused-captions",
            "These caption files are not used: they match no image, or an image that has another.",
            tuple(unused_captions),
        ),
        ("left-out", "These files were left out; left_out says why.", tuple(item.file for item in out)),
    ]
    warnings = tuple(ReportWarning(code=code, message=message, files=files) for code, message, files in checks if files)
    return DatasetReport(
        num_files=num_files,
        num_images=len(images),
        left_out=out,
        warnings=(*noted, *warnings),
        notes=tuple(notes),
        files=files,
    )


def is_blurry(image: ManifestImage) -> bool:
    return image.sharpness < BLURRY_BELOW
