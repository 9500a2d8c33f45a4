"""Looks that the bundled base knows by words: the same drawing recoloured, outlined, flat, a silhouette.

The two styles of the learning tests (``scripts.glyphs.stylize``: dark blue outlines; dark blue and cream) are not among
them.
"""

import random

from PIL import Image, ImageChops, ImageFilter, ImageOps

from scripts.colors import PARTS, Color, shade, vary

LOOKS = (
    "recolored",
    "silhouette",
    "line drawing",
    "sticker",
    "monochrome",
    "flat",
    "thick outlines",
    "grayscale",
    "pixelated",
)


def restyle(rng: random.Random, art: Image.Image, look: str) -> tuple[Image.Image, str]:
    """RGBA in, RGBA out, and the caption's pattern with ``{}`` in place of the name."""
    name, color = rng.choice(list(PARTS.items()))
    color = vary(rng, color)
    if look == "recolored":
        return _tint(art, color, 0.75), f"{name} {{}}"
    if look == "monochrome":
        return _tint(art, color, 1.0), f"{{}} in {name} tones"
    if look == "grayscale":
        return _with_alpha(ImageOps.grayscale(art.convert("RGB")).convert("RGB"), art), "{} in shades of gray"
    if look == "silhouette":
        return _fill(color, art.getchannel("A")), f"{name} silhouette of a {{}}"
    if look == "line drawing":
        return _fill(color, _lines(art, rng.choice((3, 5)))), f"line drawing of a {{}} in {name}"
    if look == "sticker":
        return _under(art, (255, 255, 255), 9), "sticker of a {}"
    if look == "thick outlines":
        return _under(art, color, 7), f"{{}} with a thick {name} outline"
    if look == "flat":
        return _with_alpha(
            ImageOps.posterize(art.convert("RGB").filter(ImageFilter.MedianFilter(5)), 2), art
        ), "flat {}"
    width, height = max(1, art.width // 9), max(1, art.height // 9)
    return art.resize((width, height), Image.Resampling.BOX).resize(art.size, Image.Resampling.NEAREST), "pixelated {}"


def _with_alpha(rgb: Image.Image, art: Image.Image) -> Image.Image:
    rgb.putalpha(art.getchannel("A"))
    return rgb


def _fill(color: Color, alpha: Image.Image) -> Image.Image:
    filled = Image.new("RGB", alpha.size, color)
    filled.putalpha(alpha)
    return filled


def _tint(art: Image.Image, color: Color, strength: float) -> Image.Image:
    """Dark stays dark and white stays white; the levels between take the colour."""
    grey = ImageOps.autocontrast(art.convert("L"), mask=art.getchannel("A"))
    toned = ImageOps.colorize(grey, shade(color, 0.2), (255, 255, 255), mid=color, midpoint=140)
    return _with_alpha(Image.blend(art.convert("RGB"), toned, strength), art)


def _lines(art: Image.Image, width: int) -> Image.Image:
    edges = [_edge(art.getchannel("A"), width)]
    grey = ImageOps.autocontrast(art.convert("L"), mask=art.getchannel("A"))
    edges += [_edge(grey.point(lambda value, at=at: 255 if value > at else 0), width) for at in (85, 170)]
    lines = ImageChops.lighter(edges[0], ImageChops.lighter(edges[1], edges[2]))
    return ImageChops.darker(lines, art.getchannel("A"))


def _edge(plane: Image.Image, width: int) -> Image.Image:
    return ImageChops.difference(plane.filter(ImageFilter.MaxFilter(width)), plane.filter(ImageFilter.MinFilter(width)))


def _under(art: Image.Image, color: Color, width: int) -> Image.Image:
    """The drawing over a wider silhouette of itself."""
    padded = ImageOps.expand(art, width, (0, 0, 0, 0))
    below = _fill(color, padded.getchannel("A").filter(ImageFilter.MaxFilter(2 * width // 2 * 2 + 1)))
    below.alpha_composite(padded)
    return below
