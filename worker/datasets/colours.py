"""From any of Pillow's modes to RGB of 8 bits in sRGB, and the alpha channel beside it.

Colours are converted by the image's own ICC profile (Little CMS through Pillow's ImageCms), with the profile's own
rendering intent and black point compensation. Without a profile RGB and grey count as sRGB, as in every browser (CSS
Images 3, 5.3), and CMYK is converted by Pillow's own rule.
"""

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

OPAQUE = 255
SAME_WITHIN = 1
"""Levels. A profile that moves no colour further equals sRGB, and its pixels stay unchanged."""
_SAMPLE_LEVELS = 9
_INTENTS = (ImageCms.Intent.PERCEPTUAL, ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Intent.SATURATION)
"""Not the absolute one, which would add the paper's own tint."""
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
"""A profile's colour space (ICC.1:2022, 7.2.6) -> Pillow's mode of such pixels."""


class UnusableProfile(Exception):
    """Broken, or for other pixels than the image's."""


class UnusableSamples(Exception):
    """The meaning of the image's numbers is unknown; the message says so."""


@dataclass(frozen=True)
class Colours:
    """``image`` is RGB; ``profile_used`` is False if there was an unusable profile."""

    image: Image.Image
    profile_used: bool = True


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours in one of the modes L, RGB, CMYK and LAB, and the alpha channel. Raises UnusableSamples.

    The caller handles a colour that PNG's tRNS chunk makes transparent: Pillow keeps only 8 bits of each sample.
    """
    match image.mode:
        case "L" | "RGB" | "CMYK" | "LAB":
            return image, None
        case "1" | "L;16":
            return image.convert("L"), None
        case "LA" | "La":
            both = image.convert("LA")
            return both.getchannel("L"), both.getchannel("A")
        case "RGBA" | "RGBa" | "PA":
            both = image.convert("RGBA")
            return both.convert("RGB"), both.getchannel("A")
        case "P":
            alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
            return image.convert("RGB"), alpha
        case "I" | "F":
            raise UnusableSamples(
                "Its samples are 32-bit numbers without a defined black and white: "
                "export it with 8 or 16 bits per channel."
            )
        case mode if mode.startswith("I;16"):
            return Image.fromarray((read_16_bits(image) >> 8).astype(np.uint8)), None
        case _:
            return image.convert("RGB"), None


def read_16_bits(image: Image.Image) -> NDArray[np.uint16]:
    """Pillow's own conversion to 8 bits clips at 255."""
    return np.asarray(image).astype(np.uint16)


def to_srgb(colours: Image.Image, profile: bytes | None) -> Colours:
    """``colours``: from ``split_alpha``."""
    if profile:
        try:
            return Colours(_apply_profile(colours, profile))
        except (UnusableProfile, ImageCms.PyCMSError, OSError, ValueError, TypeError):
            return Colours(_assume_srgb(colours), profile_used=False)
    return Colours(_assume_srgb(colours))


def _assume_srgb(colours: Image.Image) -> Image.Image:
    if colours.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return _transform(colours, ImageCms.buildTransform(lab, _srgb(), "LAB", "RGB"))
    return colours.convert("RGB")


def _apply_profile(colours: Image.Image, data: bytes) -> Image.Image:
    """Raises UnusableProfile, or Little CMS's own exceptions for broken ones."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
    mode = _SPACES.get(profile.profile.xcolor_space.strip())
    if mode == "RGB" and colours.mode == "L":
        colours = colours.convert("RGB")  # neutral in every RGB space; only the profile's curve matters
    if mode != colours.mode:
        raise UnusableProfile(f"a profile for {profile.profile.xcolor_space} beside pixels of {colours.mode}")
    transform = _build_transform(profile, mode)
    if mode in {"RGB", "L"} and _moves_nothing(transform, mode):
        return colours.convert("RGB")
    return _transform(colours, transform)


def _build_transform(profile: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    asked = ImageCms.getDefaultIntent(profile)
    intent = ImageCms.Intent(asked) if asked in _INTENTS else ImageCms.Intent.RELATIVE_COLORIMETRIC
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    return ImageCms.buildTransform(profile, _srgb(), mode, "RGB", intent, flags)


def _transform(colours: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted = ImageCms.applyTransform(colours, transform)
    assert converted is not None
    converted.info.clear()
    return converted


def _moves_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    sample = _sample(mode)
    moved = np.asarray(_transform(sample, transform), dtype=int) - np.asarray(sample.convert("RGB"), dtype=int)
    return bool(np.abs(moved).max() <= SAME_WITHIN)


@cache
def _sample(mode: str) -> Image.Image:
    """Every grey, or a lattice of colours."""
    levels = np.linspace(0, OPAQUE, _SAMPLE_LEVELS).astype(np.uint8)
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    red, green, blue = np.meshgrid(levels, levels, levels)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).reshape(1, -1, 3))


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
