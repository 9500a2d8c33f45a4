"""The rules for images and captions, and the manifest that they give.

A ready dataset never changes: its manifest lists every image with its hash, and has a hash of its own.
"""

import hashlib
import io
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from core.domain.file_counts import FileCounts
from core.domain.picture_formats import SUFFIXES

IMAGE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
CAPTION_SUFFIX = ".txt"
MASK_SUFFIX = ".mask"
METADATA_NAME = "metadata.jsonl"
MAX_CAPTION_CHARS = 2000
MAX_METADATA_LINE_CHARS = 64 << 10
MAX_METADATA_PROBLEMS = 100
MIN_SIDE = 16
FEW_IMAGES = 5
BLURRY_BELOW = 12.0
NEAR_DUPLICATE_BITS = 5

WarningCode = Literal[
    "few-images", "near-duplicates", "blurry", "small-images", "missing-captions", "long-captions",
    "unused-captions", "left-out", "first-picture", "unusable-profile", "names-guessed",
]  # fmt: skip


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ManifestImage(Part):
    """One usable image. ``key`` is its re-encoded PNG in storage, upright, without metadata: RGB, or RGBA where
    it is ``masked`` and alpha says how much each pixel counts."""

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


class LeftOut(Part):
    file: str
    reason: str


class ReportWarning(Part):
    code: WarningCode
    message: str
    files: tuple[str, ...] = ()


class DatasetReport(Part):
    """What became of every file, and what may spoil the training. Old reports have no ``files``."""

    num_files: int
    num_images: int
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[ReportWarning, ...] = ()
    files: FileCounts | None = None


class DatasetManifest(Part):
    images: tuple[ManifestImage, ...]

    def content_hash(self) -> str:
        """SHA-256 over names, pixels' hashes and captions, in canonical JSON."""
        rows = [[image.name, image.sha256, image.caption] for image in self.images]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


class Bucket(Part):
    """A training size in pixels."""

    width: int
    height: int


def is_image_name(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_mask_name(name: str) -> bool:
    """``x.mask.png`` says which parts of ``x.png`` or ``x.jpg`` count."""
    return is_image_name(name) and PurePosixPath(name).stem.lower().endswith(MASK_SUFFIX)


def pair_masks(images: Iterable[str], masks: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Image name -> its mask's, and the masks that belong to no image."""
    stems = {stem_of(name): name for name in images}
    paired, alone = {}, []
    for mask in masks:
        image = stems.get(stem_of(mask)[: -len(MASK_SUFFIX)])
        if image is None:
            alone.append(mask)
        else:
            paired[image] = mask
    return paired, alone


def is_archive_name(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def stem_of(name: str) -> str:
    """The path without its suffix: what pairs ``x.txt`` with ``x.png``."""
    return str(PurePosixPath(name).with_suffix(""))


def clean_caption(text: str) -> str | None:
    """One line, at most MAX_CAPTION_CHARS; None when nothing is left."""
    line = " ".join(text.replace("\x00", " ").split())
    return line[:MAX_CAPTION_CHARS].rstrip() or None


def read_metadata(text: str) -> tuple[dict[str, str], list[str]]:
    """Hugging Face imagefolder's metadata.jsonl: file_name -> caption, and what is wrong with which line.

    After MAX_METADATA_PROBLEMS wrong lines the rest is not read: 16 MiB of them would take a gigabyte, and a while.
    """
    captions: dict[str, str] = {}
    problems: list[str] = []
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if not line.strip():
            continue
        row = _parse_row(line)
        if row is not None:
            captions[row[0]] = row[1]
            continue
        problems.append(f"line {number} is not a JSON object with the strings file_name and text")
        if len(problems) == MAX_METADATA_PROBLEMS:
            break
    return captions, problems


def _parse_row(line: str) -> tuple[str, str] | None:
    if len(line) > MAX_METADATA_LINE_CHARS:
        return None
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    name, text = row.get("file_name"), row.get("text")
    return (name, text) if isinstance(name, str) and isinstance(text, str) else None


def spell(name: str) -> str:
    """A path as metadata.jsonl is read: some systems write accents apart from their letters, some backslashes."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def pair_captions(
    images: Iterable[str], text_files: Mapping[str, str], metadata: Mapping[str, str]
) -> tuple[dict[str, str | None], list[str]]:
    """Image name -> caption, and the caption files that belong to no image.

    ``x.txt`` beside ``x.png`` wins over metadata.jsonl, whose names are as ``spell`` gives them; an image with neither
    has None.
    """
    names = list(images)
    by_stem = {stem_of(name): text for name, text in text_files.items()}
    paired = {
        name: clean_caption(
            by_stem.get(stem_of(name)) or metadata.get(spell(name)) or metadata.get(spell(PurePosixPath(name).name), "")
        )
        for name in names
    }
    stems = {stem_of(name) for name in names}
    return paired, sorted(name for name in text_files if stem_of(name) not in stems)


def choose_bucket(width: int, height: int, resolution: int, step: int) -> Bucket:
    """The size whose aspect is nearest to the image's among those of at most ``resolution``² pixels.

    Sides are multiples of ``step``, from half to twice the resolution (as kohya's sd-scripts and NovelAI's
    aspect-ratio bucketing do).
    """
    aspect = math.log(width / height)
    return min(list_buckets(resolution, step), key=lambda b: (abs(math.log(b.width / b.height) - aspect), -b.width))


def list_buckets(resolution: int, step: int) -> list[Bucket]:
    area = resolution * resolution
    buckets = set()
    for side in range(max(step, resolution // 2 // step * step), resolution * 2 + 1, step):
        other = min(area // side // step * step, resolution * 2)
        if other >= step:
            buckets |= {(side, other), (other, side)}
    buckets.add((resolution, resolution))
    return [Bucket(width=w, height=h) for w, h in sorted(buckets)]


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
) -> DatasetReport:
    """The report of a set. It never refuses: that is the caller's, when no image is left.

    ``noted``: what was found while the files were read.
    """
    images, out = manifest.images, tuple(left_out)
    checks: list[tuple[WarningCode, str, tuple[str, ...]]] = [
        (
            "few-images",
            f"{len(images)} image{'s are' if len(images) > 1 else ' is'} few to learn from: {FEW_IMAGES} or more give "
            "better results.",
            tuple(i.name for i in images) if len(images) < FEW_IMAGES else (),
        ),
        (
            "near-duplicates",
            "These look almost the same: the set teaches less than its size says.",
            tuple(sorted({name for pair in near_duplicates(images) for name in pair})),
        ),
        ("blurry", "These look blurred, and so will what is learned.", tuple(i.name for i in images if is_blurry(i))),
        (
            "small-images",
            "These are smaller than 64 pixels and will be enlarged.",
            tuple(i.name for i in images if min(i.width, i.height) < 64),
        ),
        (
            "missing-captions",
            "These have no caption: the job's trigger phrase stands in for it.",
            tuple(i.name for i in images if i.caption is None),
        ),
        (
            "long-captions",
            f"These captions are longer than {MAX_CAPTION_CHARS:,} characters: what is beyond was cut off.",
            tuple(i.name for i in images if i.caption is not None and len(i.caption) >= MAX_CAPTION_CHARS),
        ),
        ("unused-captions", "These caption files belong to no image.", tuple(unused_captions)),
        ("left-out", "These files were left out; left_out says why.", tuple(item.file for item in out)),
    ]
    warnings = tuple(ReportWarning(code=code, message=message, files=files) for code, message, files in checks if files)
    return DatasetReport(
        num_files=num_files, num_images=len(images), left_out=out, warnings=(*noted, *warnings), files=files
    )


def is_blurry(image: ManifestImage) -> bool:
    return image.sharpness < BLURRY_BELOW
