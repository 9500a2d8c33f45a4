"""One image: decoded, set upright, flattened to RGB, re-encoded without metadata, and described.

Transparent parts become white, and the alpha channel is kept as the image's mask, unless nothing in it is transparent;
a mask file replaces it. Runs in the decoder's process alone.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.domain.dataset import THUMBNAIL_SIDE
from worker.datasets.colours import OPAQUE
from worker.datasets.opening import Note, Opened, Unusable, open_image

__all__ = ["ConvertedImage", "Unusable", "convert_image", "crop_image"]

SHARPNESS_SIDE = 256
DHASH_COLUMNS, DHASH_ROWS = 9, 8
# A third of the default level's time for a few per cent more size, and stored images are read once or twice.
PNG_COMPRESS_LEVEL = 3
THUMBNAIL_QUALITY = 80


@dataclass(frozen=True)
class ConvertedImage:
    """The written PNG: ``sharpness`` is the variance of the Laplacian, ``dhash`` 64 bits in hexadecimal.

    ``notes``: remarks for its owner on how the file was read.
    """

    sha256: str
    width: int
    height: int
    dhash: str
    sharpness: float
    masked: bool
    notes: tuple[Note, ...] = ()


def convert_image(
    source: Path, target: Path, *, mask: Path | None = None, thumbnail: Path | None = None, max_pixels: int
) -> ConvertedImage:
    """``mask``: an image whose light parts count. ``thumbnail``: where a WebP of at most 256 pixels a side is written,
    unless the image itself is no larger. Raises Unusable."""
    opened = open_image(source, max_pixels)
    alpha = opened.alpha if mask is None else _decode_mask(mask, opened.colours.size, max_pixels)
    image, notes = _lay_on("white", opened), opened.notes
    written = _write(image, alpha, target, thumbnail)
    if written.masked and mask is None:
        notes = (*notes, "alpha-mask")
    return replace(written, notes=notes)


def crop_image(
    source: Path, target: Path, box: tuple[int, int, int, int], *, thumbnail: Path | None = None, max_pixels: int
) -> ConvertedImage:
    """A part of an image that ``convert_image`` wrote, and so of its mask. ``box``: left, top, width and height, in
    pixels within the image. ``thumbnail``: as for ``convert_image``. Raises Unusable."""
    opened, (left, top, width, height) = open_image(source, max_pixels), box
    region = (left, top, left + width, top + height)
    return _write(opened.colours.crop(region), opened.alpha and opened.alpha.crop(region), target, thumbnail)


def _write(image: Image.Image, alpha: Image.Image | None, target: Path, thumbnail: Path | None) -> ConvertedImage:
    """Raises Unusable if nothing is visible."""
    if alpha is not None and not np.asarray(alpha).any():
        raise Unusable("Nothing of it is visible: its mask or alpha channel hides all of it.")
    masked = alpha is not None and bool(np.asarray(alpha).min() < OPAQUE)
    written = image
    if alpha is not None and masked:
        written = image.copy()
        written.putalpha(alpha)
    written.save(target, format="PNG", compress_level=PNG_COMPRESS_LEVEL)
    if thumbnail is not None and max(written.size) > THUMBNAIL_SIDE:
        _write_thumbnail(written, thumbnail)
    with target.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    described = hash_differences(image), measure_sharpness(image)
    return ConvertedImage(sha256, image.width, image.height, *described, masked)


def _write_thumbnail(image: Image.Image, target: Path) -> None:
    scale = THUMBNAIL_SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # reducing_gap: first by whole factors, which is several times as fast for large images
    small = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    small.save(target, format="WEBP", quality=THUMBNAIL_QUALITY)


def _decode_mask(source: Path, size: tuple[int, int], max_pixels: int) -> Image.Image:
    """As light as the image counts, of the image's size; zero where the mask is transparent. Its numbers are weights,
    which no profile may change."""
    try:
        mask = _lay_on("black", open_image(source, max_pixels, with_profile=False))
    except Unusable as error:
        raise Unusable(f"Its mask cannot be used: {error}") from error
    if abs(mask.width * size[1] - mask.height * size[0]) > max(*size, *mask.size):  # a scaled side is rounded
        raise Unusable(
            f"Its mask has {mask.width} x {mask.height} pixels, another shape than its {size[0]} x {size[1]}."
        )
    return mask.convert("L").resize(size, Image.Resampling.BILINEAR)


def _lay_on(color: str, opened: Opened) -> Image.Image:
    if opened.alpha is None or opened.is_mask:
        return opened.colours
    paper = Image.new("RGB", opened.colours.size, color)
    paper.paste(opened.colours, mask=opened.alpha)
    return paper


def hash_differences(image: Image.Image) -> str:
    """dHash: whether each pixel of a 9 x 8 grey copy is darker than its right neighbour."""
    small = image.resize((DHASH_COLUMNS, DHASH_ROWS), Image.Resampling.BOX).convert("L")
    grey = np.asarray(small, dtype=np.int16)
    return np.packbits(grey[:, :-1] < grey[:, 1:]).tobytes().hex()


def measure_sharpness(image: Image.Image) -> float:
    """Variance of the Laplacian on a grey copy of at most 256 pixels a side.

    Never enlarged: that would blur a small image, and 64 pixels are sharp enough for a base of 64.
    """
    scale = min(1.0, SHARPNESS_SIDE / max(image.size))
    size = (max(3, round(image.width * scale)), max(3, round(image.height * scale)))
    grey = np.asarray(image.resize(size, Image.Resampling.BOX).convert("L"), dtype=np.float32)
    return round(float(_laplacian(grey).var()), 2)


def _laplacian(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    result: NDArray[np.float32] = around - 4 * middle
    return result
