"""One picture: decoded, set upright, flattened to RGB, written anew without metadata, and described.

What is transparent becomes white, and the alpha channel stays as the picture's mask, unless nothing in it is
transparent; a mask file comes in its place.

Runs in the decoder's process alone. A picture that moves (APNG, animated WebP) is left out, for nobody knows
which of its frames was meant; of a phone's multi-picture JPEG (MPO) the first is the photograph.
"""

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from core.domain.dataset import MIN_SIDE

FORMATS = ("PNG", "JPEG", "WEBP")
SHARPNESS_SIDE = 256
DHASH_COLUMNS, DHASH_ROWS = 9, 8
# A third of the default level's time for a few per cent of its size, and what is stored is read once or twice.
PNG_COMPRESS_LEVEL = 3
OPAQUE = 255


class Unusable(Exception):
    """The picture is left out; the message says why, and what to do."""


@dataclass(frozen=True)
class Picture:
    """Of the PNG that was written: ``sharpness`` is the variance of the Laplacian, ``dhash`` 64 bits in hexadecimal."""

    sha256: str
    width: int
    height: int
    dhash: str
    sharpness: float
    masked: bool


def convert_picture(source: Path, target: Path, *, mask: Path | None = None, max_pixels: int) -> Picture:
    """``mask``: a picture whose light parts are what counts. Raises Unusable."""
    image, alpha = _decode(source, max_pixels)
    if mask is not None:
        alpha = _decode_mask(mask, image.size, max_pixels)
    if alpha is not None and not np.asarray(alpha).any():
        raise Unusable("Nothing of it is to be seen: its mask or alpha channel hides all.")
    masked = alpha is not None and bool(np.asarray(alpha).min() < OPAQUE)
    written = image
    if alpha is not None and masked:
        written = image.copy()
        written.putalpha(alpha)
    written.save(target, format="PNG", compress_level=PNG_COMPRESS_LEVEL)
    with target.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Picture(sha256, image.width, image.height, hash_differences(image), measure_sharpness(image), masked)


def _decode_mask(source: Path, size: tuple[int, int], max_pixels: int) -> Image.Image:
    """As light as the picture counts, of the picture's size."""
    try:
        mask, _ = _decode(source, max_pixels)
    except Unusable as error:
        raise Unusable(f"Its mask cannot be used: {error}") from error
    if mask.width * size[1] != mask.height * size[0]:
        raise Unusable(
            f"Its mask has {mask.width} x {mask.height} pixels, another shape than its {size[0]} x {size[1]}."
        )
    return mask.convert("L").resize(size, Image.Resampling.BILINEAR)


def _decode(source: Path, max_pixels: int) -> tuple[Image.Image, Image.Image | None]:
    """RGB, and the alpha channel where there is one."""
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own cap only warns up to twice its value; _check_size is ours
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(source, formats=FORMATS) as image:
            _check_size(image, max_pixels)
            _check_still(image)
            upright = turn_upright(image)
            flat = flatten(upright)
            flat.info.clear()  # or the PNG would get the colour profile, and whatever else Pillow knows how to write
            return flat, upright.convert("RGBA").getchannel("A") if upright.has_transparency_data else None
    except Unusable:
        raise
    except UnidentifiedImageError:
        raise Unusable("It is not a PNG, JPEG or WebP picture, whatever its name says.") from None
    except MemoryError:
        raise Unusable("Decoding it takes too much memory: make it smaller.") from None
    except Exception as error:
        # Pillow raises a dozen kinds for broken files: OSError, SyntaxError, struct.error, ...
        raise Unusable("It is broken or cut short: export or upload it again.") from error


def _check_size(image: Image.Image, max_pixels: int) -> None:
    """From the header, before a pixel is decoded."""
    width, height = image.size
    if width * height > max_pixels:
        raise Unusable(f"It has {width} x {height} pixels, more than {max_pixels:,}: make it smaller.")
    if min(width, height) < MIN_SIDE:
        raise Unusable(f"It has {width} x {height} pixels: {MIN_SIDE} on each side is the least.")


def _check_still(image: Image.Image) -> None:
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise Unusable("It is animated: save the frame that you want as a picture.")


def turn_upright(image: Image.Image) -> Image.Image:
    """Applies EXIF's orientation. Broken EXIF is no reason to lose a picture that decodes."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image.copy()


def flatten(image: Image.Image) -> Image.Image:
    """RGB of 8 bits a channel; transparent parts become white."""
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips it at 255
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    paper = Image.new("RGB", image.size, "white")
    paper.paste(layer, mask=layer.getchannel("A"))
    return paper


def hash_differences(image: Image.Image) -> str:
    """dHash: whether each pixel of a 9 x 8 grey copy is darker than its right neighbour."""
    small = image.resize((DHASH_COLUMNS, DHASH_ROWS), Image.Resampling.BOX).convert("L")
    grey = np.asarray(small, dtype=np.int16)
    return np.packbits(grey[:, :-1] < grey[:, 1:]).tobytes().hex()


def measure_sharpness(image: Image.Image) -> float:
    """Variance of the Laplacian on a grey copy of at most 256 pixels a side.

    Never enlarged: that would blur a small picture, and 64 pixels are sharp enough for a base of 64.
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
