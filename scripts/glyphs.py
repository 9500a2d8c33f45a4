"""The drawings that the bundled base model learns: colour glyphs on flat backgrounds, with captions.

The glyphs come from Noto Color Emoji (Debian's ``fonts-noto-color-emoji``, SIL Open Font License) and
are drawn at run time; no image of the font is stored in the repository. Everything here is a pure function of its
arguments, so a seed gives the same images on every machine with the same font.
"""

import functools
import math
import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

from scripts.colors import BACKGROUNDS

FONT_PATHS = (
    Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/noto/NotoColorEmoji.ttf"),
    Path("/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf"),
)
FONT_SIZE = 109
"""The only size at which the font's bitmaps can be drawn."""

SIZE = 64
"""Side of an image in pixels: the resolution of ``tiny``."""

SCALES: dict[str, float] = {"large": 0.86, "small": 0.52}
"""Width of the glyph as a fraction of the image, by the caption's size word."""

HELD_OUT: dict[str, str] = {
    "robot": "\U0001f916",
    "fox": "\U0001f98a",
    "octopus": "\U0001f419",
    "cactus": "\U0001f335",
    "rocket": "\U0001f680",
}
"""Never shown to the base, neither to the autoencoder nor to the U-Net: the subjects of learning tests."""

_ANIMALS = """
cat face=1f431 dog face=1f436 mouse face=1f42d rabbit face=1f430 bear face=1f43b panda face=1f43c
koala=1f428 tiger face=1f42f lion=1f981 cow face=1f42e pig face=1f437 frog=1f438 monkey face=1f435
chicken=1f414 penguin=1f427 chick=1f424 owl=1f989 wolf=1f43a unicorn=1f984 bee=1f41d
butterfly=1f98b snail=1f40c ladybug=1f41e turtle=1f422 snake=1f40d crab=1f980 fish=1f41f dolphin=1f42c
whale=1f433 elephant=1f418
"""
_FOODS = """
apple=1f34e tangerine=1f34a lemon=1f34b banana=1f34c watermelon=1f349 grapes=1f347 strawberry=1f353
cherries=1f352 pineapple=1f34d tomato=1f345 carrot=1f955 corn=1f33d mushroom=1f344 hamburger=1f354
pizza=1f355 doughnut=1f369 cookie=1f36a cake=1f382 ice cream=1f366 lollipop=1f36d cheese=1f9c0
avocado=1f951 eggplant=1f346 broccoli=1f966 fries=1f35f
"""
_PLANTS = """
pine tree=1f332 palm tree=1f334 sunflower=1f33b tulip=1f337 rose=1f339 maple leaf=1f341 clover=1f340
blossom=1f338
"""
_VEHICLES = """
car=1f697 bus=1f68c tractor=1f69c bicycle=1f6b2 sailboat=26f5 helicopter=1f681 locomotive=1f682
flying saucer=1f6f8 balloon=1f388
"""
_THINGS = """
soccer ball=26bd basketball=1f3c0 guitar=1f3b8 drum=1f941 bell=1f514 key=1f511 light bulb=1f4a1
camera=1f4f7 alarm clock=23f0 gift=1f381 crown=1f451 top hat=1f3a9 gem=1f48e heart=2764 star=2b50
moon=1f319 sun=1f31e rainbow=1f308 fire=1f525 snowman=26c4 house=1f3e0 book=1f4d5 lock=1f512
teddy bear=1f9f8 pumpkin=1f383 skull=1f480 ghost=1f47b alien=1f47d
"""


def _parse(table: str) -> dict[str, str]:
    pairs, words = {}, []
    for word in table.split():
        name, equals, code = word.partition("=")
        words.append(name)
        if equals:
            pairs[" ".join(words)] = chr(int(code, 16))
            words = []
    return pairs


BASE: dict[str, str] = {
    name: char for table in (_ANIMALS, _FOODS, _PLANTS, _VEHICLES, _THINGS) for name, char in _parse(table).items()
}
"""Name in the caption -> character: the base's training glyphs."""


class FontMissing(RuntimeError):
    """Noto Color Emoji is not installed."""


def find_font() -> Path:
    """The font's file. Raises FontMissing with what to install."""
    for path in FONT_PATHS:
        if path.exists():
            return path
    raise FontMissing("Noto Color Emoji is missing: apt-get install fonts-noto-color-emoji")


@functools.cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(find_font()), FONT_SIZE)


@functools.cache
def sprite(char: str) -> Image.Image:
    """One glyph, RGBA with a premultiplied-safe edge, cropped to its box."""
    canvas = Image.new("RGBA", (180, 180), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((20, 20), char, font=_font(), embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise FontMissing(f"the font has no glyph for U+{ord(char):04X}")
    return canvas.crop(box)


def list_pictographs() -> list[str]:
    """All glyphs of the pictograph blocks that the font draws, without the held-out ones."""
    codes = [*range(0x1F300, 0x1F580), *range(0x1F600, 0x1F650), *range(0x1F680, 0x1F6F0), *range(0x1F900, 0x1FA00)]
    codes += [*range(0x1FA70, 0x1FB00), *range(0x2600, 0x27C0)]
    chars = [char for char in [*map(chr, codes), *BASE.values()] if char not in HELD_OUT.values()]
    return [char for char in dict.fromkeys(chars) if _is_drawn(char)]


def _is_drawn(char: str) -> bool:
    try:
        sprite(char)
    except FontMissing:
        return False
    return True


_INK, _CREAM = (40, 44, 84), (252, 240, 214)


def stylize(glyph: Image.Image, style: str) -> Image.Image:
    """A sprite as its dark outlines alone, or in dark blue and cream. RGBA in, RGBA out."""
    grey = ImageOps.autocontrast(glyph.convert("L"), mask=glyph.getchannel("A"))
    if style == "two colours":
        flat = Image.composite(
            Image.new("RGB", glyph.size, _CREAM), Image.new("RGB", glyph.size, _INK), grey.point(_half)
        )
        flat.putalpha(glyph.getchannel("A").point(_half))
        return flat
    edges = ImageChops.lighter(_edges(glyph.getchannel("A")), _edges(grey.point(_half)))
    lines = Image.new("RGB", glyph.size, _INK)
    lines.putalpha(ImageChops.darker(edges, glyph.getchannel("A")))
    return lines


def _half(value: int) -> int:
    return 255 if value > 127 else 0


def _edges(plane: Image.Image) -> Image.Image:
    """255 within some pixels of where a plane turns from dark to light."""
    wide, narrow = plane.filter(ImageFilter.MaxFilter(7)), plane.filter(ImageFilter.MinFilter(7))
    return ImageChops.difference(wide, narrow)


@dataclass(frozen=True)
class Pose:
    """A glyph's pose in its image. Angles in degrees, shifts in pixels of the finished image."""

    scale: float
    angle: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    flip: bool = False


def draw_pose(rng: random.Random, size_word: str) -> Pose:
    """A random small variation of the size word: at most 12 degrees, 6 % of size and 4 pixels."""
    scale = SCALES[size_word] * rng.uniform(0.94, 1.06)
    room = max(0.0, (SIZE - SIZE * scale) / 2)
    reach = min(4.0 if size_word == "large" else 9.0, room)
    return Pose(
        scale=scale,
        angle=rng.uniform(-12, 12),
        shift_x=rng.uniform(-reach, reach),
        shift_y=rng.uniform(-reach, reach),
        flip=rng.random() < 0.5,
    )


def compose(glyph: Image.Image, background: tuple[int, int, int], pose: Pose, size: int = SIZE) -> Image.Image:
    """Draws an RGBA sprite on a flat background: RGB, ``size`` x ``size`` pixels."""
    art = glyph.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if pose.flip else glyph
    factor = size * pose.scale / max(art.size)
    over = 2  # rotate at twice the size, then shrink: clean edges without a blur
    art = art.resize(
        (max(1, round(art.width * factor * over)), max(1, round(art.height * factor * over))),
        Image.Resampling.LANCZOS,
    )
    art = art.rotate(pose.angle, resample=Image.Resampling.BICUBIC, expand=True)
    canvas = Image.new("RGB", (size * over, size * over), background)
    left = round((size * over - art.width) / 2 + pose.shift_x * over * size / SIZE)
    top = round((size * over - art.height) / 2 + pose.shift_y * over * size / SIZE)
    canvas.paste(art, (left, top), art)
    return canvas.resize((size, size), Image.Resampling.BOX)


def caption(name: str, size_word: str, background: str) -> str:
    """The full caption, such as "a large cat face on a blue background"."""
    return f"a {size_word} {name} on a {background} background"


def vary_caption(rng: random.Random, name: str, size_word: str, background: str) -> str:
    """Mostly the full caption; sometimes without the size, the background, or both."""
    draw = rng.random()
    if draw < 0.70:
        return caption(name, size_word, background)
    if draw < 0.85:
        return f"a {name} on a {background} background"
    if draw < 0.95:
        return f"a {size_word} {name}"
    return f"a {name}"


def make_up_word(rng: random.Random) -> str:
    """A word without a meaning, such as "blip" or "zorka": one or two syllables."""
    return "".join(
        rng.choice("bcdfghjklmnpqrstvwxyz")
        + rng.choice(("", "l", "r"))
        + rng.choice("aeiou")
        + rng.choice("bdgklmnpstxz")
        for _ in range(rng.choice((1, 1, 2)))
    )


def draw_set(char: str, backgrounds: list[str], count: int, seed: int) -> list[tuple[Image.Image, str, str]]:
    """``count`` images of one glyph over the given backgrounds in turn: (image, size word, background)."""
    rng = random.Random(f"{seed}:{char}")
    pictures = []
    for index in range(count):
        background = backgrounds[index % len(backgrounds)]
        size_word = ("large", "small")[math.floor(index / len(backgrounds)) % 2]
        picture = compose(sprite(char), BACKGROUNDS[background], draw_pose(rng, size_word))
        pictures.append((picture, size_word, background))
    return pictures
