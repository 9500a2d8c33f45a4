"""Opens one image of any accepted format and returns its pixels: upright, in sRGB, with the alpha channel beside them.

The format is recognized by the first bytes, and only Pillow's reader for it is used. Size and number of pixels are
checked before a pixel is decoded. Of a file with several images (GIF, APNG, animated WebP, TIFF with pages, AVIF and
HEIC sequences) the first is used, of HEIC the primary one.
"""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import AvifImagePlugin, Image, ImageChops

from core.domain import mask_mark
from core.domain.dataset import MIN_SIDE
from core.domain.image_formats import HEAD_BYTES, describe_unaccepted, recognise_format
from worker.datasets import coded_colours
from worker.datasets.coded_colours import CodedColours, read_coded_colours
from worker.datasets.colours import OPAQUE, UnusableSamples, read_16_bits, split_alpha, to_srgb
from worker.datasets.png_chunks import OpenPng, open_png

Note = Literal["first-frame", "unusable-profile", "alpha-mask"]

READERS: dict[str, tuple[str, ...]] = {
    # A file with these brands may be either; each reader refuses the other's.
    "AVIF": ("AVIF", "HEIF"),
    "HEIF": ("HEIF", "AVIF"),
}
ORIENTATION = 0x0112
_PHOTOMETRIC = 0x0106
# These formats have variants that the libraries cannot read, although the files are intact.
_OF_MANY_KINDS = {"JPEG": "JPEG", "HEIF": "HEIC", "AVIF": "AVIF", "BMP": "BMP", "TIFF": "TIFF"}
# EXIF's orientation -> the operation that turns the stored rows upright (CIPA DC-008, 4.6.5).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow spreads PNG's samples of less than a byte over 0 to 255, but not the colour of tRNS.
_SPREAD = {"L;2": 85, "L;4": 17}

# One thread each: more would only use up the decoder's address space.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)


class Unusable(Exception):
    """The image is left out; the message says why, and what to do."""


@dataclass(frozen=True)
class Opened:
    """``colours`` is RGB in sRGB, ``alpha`` L of the same size, None if the image has no such channel.

    ``is_mask``: alpha hides nothing, as an image of a downloaded dataset says (core/domain/mask_mark.py).
    """

    colours: Image.Image
    alpha: Image.Image | None
    notes: tuple[Note, ...] = ()
    is_mask: bool = False


def open_image(source: Path, max_pixels: int, *, with_profile: bool = True) -> Opened:
    """Raises Unusable. Without ``with_profile`` the numbers stay unchanged."""
    with source.open("rb") as file:
        head = file.read(HEAD_BYTES)
    kind = recognise_format(head)
    if kind is None:
        raise Unusable(describe_unaccepted(head))
    try:
        with warnings.catch_warnings(action="ignore"):
            return _finish(_read(source, kind, max_pixels), with_profile)
    except Unusable:
        raise
    except UnusableSamples as error:
        raise Unusable(str(error)) from None
    except MemoryError:
        raise Unusable("Decoding it takes too much memory: make it smaller.") from None
    except Exception as error:
        # Pillow raises a dozen types of exceptions for broken files: OSError, SyntaxError, struct.error, ...
        raise Unusable(_describe_failure(kind)) from error


def _describe_failure(kind: str) -> str:
    if kind in _OF_MANY_KINDS:
        return (
            f"It is broken or cut short, or a variant of {_OF_MANY_KINDS[kind]} that is not supported: upload it "
            "again, or export it as PNG."
        )
    return "It is broken or cut short: export or upload it again."


@dataclass(frozen=True)
class _Stored:
    """As stored in the file: not yet upright, and in the colours of its profile."""

    colours: Image.Image
    alpha: Image.Image | None
    profile: bytes | None
    lost_profile: bool
    orientation: int
    has_more: bool
    is_mask: bool


def _read(source: Path, kind: str, max_pixels: int) -> _Stored:
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own cap only warns up to twice its value; _check_size is ours
    with _open_source(source, kind) as png, Image.open(png.file, formats=READERS.get(kind, (kind,))) as image:
        _check_size(image, max_pixels)
        raw_mode = _raw_mode_of(image)
        is_mask = kind == "PNG" and image.info.get(mask_mark.KEYWORD) == mask_mark.VALUE
        image.load()
        _check_size(image, max_pixels)  # a HEIC may turn out to have another size than its header says
        colours, alpha = split_alpha(image)
        if _is_white_zero(image):
            colours = ImageChops.invert(colours)
        alpha = alpha or _alpha_by_colour(image, raw_mode, source)
        if kind == "BMP" and alpha is not None and not alpha.getbbox():
            alpha = None  # the fourth byte is mostly left at 0, without meaning
        profile = png.profile or image.info.get("icc_profile")
        coded = _read_coded(source, kind) if not profile and colours.mode == "RGB" else CodedColours()
        return _Stored(
            colours.copy() if colours is image else colours,
            alpha,
            profile or coded.profile,
            png.lost_profile or not coded.is_known,
            _find_orientation(image),
            _has_more(image),  # moves on to the next image, so what it changes comes before
            is_mask,
        )


def _read_coded(source: Path, kind: str) -> CodedColours:
    with source.open("rb") as file:
        return read_coded_colours(file.read(coded_colours.HEAD_BYTES), kind)


def _finish(stored: _Stored, with_profile: bool) -> Opened:
    converted = to_srgb(stored.colours, stored.profile if with_profile else None)
    flat, alpha, turn = converted.image, stored.alpha, _TURNS.get(stored.orientation)
    flat.info.clear()  # or Pillow would write all metadata that it knows
    if turn is not None:
        flat, alpha = flat.transpose(turn), alpha and alpha.transpose(turn)
    notes: dict[Note, bool] = {
        "first-frame": stored.has_more,
        "unusable-profile": with_profile and (stored.lost_profile or not converted.profile_used),
    }
    return Opened(flat, alpha, tuple(note for note, said in notes.items() if said), stored.is_mask)


@contextlib.contextmanager
def _open_source(source: Path, kind: str) -> Iterator[OpenPng]:
    opened = open_png(source) if kind == "PNG" else OpenPng(source.open("rb"))
    with opened.file:
        yield opened


def _check_size(image: Image.Image, max_pixels: int) -> None:
    """From the header, before a pixel is decoded."""
    width, height = image.size
    if width * height > max_pixels:
        raise Unusable(f"It has {width} x {height} pixels, more than {max_pixels:,}: make it smaller.")
    if min(width, height) < MIN_SIDE:
        raise Unusable(f"It has {width} x {height} pixels: at least {MIN_SIDE} on each side are needed.")


def _is_white_zero(image: Any) -> bool:
    """For greys in a TIFF (TIFF 6.0, PhotometricInterpretation 0); up to 8 bits Pillow itself inverts them."""
    return bool(image.format == "TIFF" and image.mode.startswith("I;16") and image.tag_v2.get(_PHOTOMETRIC) == 0)


def _find_orientation(image: Image.Image) -> int:
    """Broken EXIF does not exclude an image that decodes."""
    try:
        found: int = image.getexif().get(ORIENTATION, 1)
    except Exception:
        return 1
    return found if isinstance(found, int) else 1


def _has_more(image: Image.Image) -> bool:
    """Whether there is an image after this one, by moving there: counting them all may take long.

    The second image in a phone's JPEG (MPO) is only for the phone.
    """
    if image.format in {"MPO", "HEIF"}:
        return image.format == "HEIF" and getattr(image, "n_frames", 1) > 1
    try:
        image.seek(image.tell() + 1)
    except Exception:
        return False
    return True


# --- a colour that is transparent ---------------------------------------------------------------------------


def _raw_mode_of(image: Any) -> str:
    """The layout of the samples in the file, in Pillow's words; only known before they are read."""
    arguments = image.tile[0].args if getattr(image, "tile", None) else ""
    raw_mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw_mode if isinstance(raw_mode, str) else ""


def _alpha_by_colour(image: Image.Image, raw_mode: str, source: Path) -> Image.Image | None:
    """The offset at which a PNG's tRNS chunk states the transparent colour (PNG, third edition, 11.3.1.1), or a GIF of
    greys its transparent grey; else None."""
    key = image.info.get("transparency")
    if image.format not in {"PNG", "GIF"} or key is None or image.mode == "P":
        return None
    if image.mode == "RGB":
        high, low = [value >> 8 for value in key], [value & 0xFF for value in key]
        if raw_mode != "RGB;16B":
            return _opaque_unless(np.all(np.asarray(image) == low, axis=-1))
        return _opaque_unless(np.all((np.asarray(image) == high) & (_read_low_bytes(source) == low), axis=-1))
    samples = read_16_bits(image) if image.mode.startswith("I;16") else np.asarray(image.convert("L"))
    return _opaque_unless(samples == key * _SPREAD.get(raw_mode, 1))


def _read_low_bytes(source: Path) -> NDArray[np.uint8]:
    """For samples of 16 bits, of which Pillow keeps the high byte: reads them with swapped bytes."""
    with open_png(source).file as file, Image.open(file, formats=("PNG",)) as image:
        image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]
        return np.asarray(image)


def _opaque_unless(transparent: NDArray[np.bool_]) -> Image.Image:
    return ImageChops.invert(Image.fromarray(np.where(transparent, np.uint8(OPAQUE), np.uint8(0))))
