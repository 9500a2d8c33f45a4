"""Draws the example set: Blip, a character of this project's own, in 12 images with captions.

    python -m scripts.draw_blip [--out examples/blip]

Blip is a round teal creature with one bent antenna, big eyes, stubby orange feet and a striped scarf. The sizes and
background colours are those that the bundled base knows (``scripts.glyphs``); blue, purple and pink are left out, so
that a trained adapter can be tested on backgrounds outside of its training set. There is no randomness: the same Pillow
gives the same bytes.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageChops, ImageDraw

from scripts.glyphs import BACKGROUNDS, SCALES, Pose, caption, compose

SIZE = 256
"""Side of an image in pixels."""

CANVAS = 1024
"""Side of the sheet that the creature is drawn on, before it is shrunk: the drawing's unit is its pixel."""

LINE, STRIPE = 22, 112
BODY_CENTRE, BODY_REACH = (512, 520), (300, 290)

Colour = tuple[int, int, int]
INK: Colour = (13, 62, 74)
TEAL: Colour = (28, 172, 172)
TEAL_LIGHT: Colour = (112, 222, 212)
TEAL_DARK: Colour = (18, 132, 140)
ORANGE: Colour = (250, 146, 44)
CREAM: Colour = (255, 246, 222)
MAROON: Colour = (170, 36, 84)
ROSE: Colour = (255, 138, 128)
WHITE: Colour = (255, 255, 255)

Point = tuple[float, float]
Eyes = Literal["open", "wide", "happy", "wink"]
Mouth = Literal["smile", "laugh", "round"]
Arms = Literal["down", "wave", "cheer", "out"]
Feet = Literal["stand", "walk", "jump"]


@dataclass(frozen=True)
class Look:
    """Blip's pose. ``gaze`` is the direction of the pupils, each axis from -1 to 1."""

    eyes: Eyes = "open"
    mouth: Mouth = "smile"
    arms: Arms = "down"
    feet: Feet = "stand"
    gaze: Point = (0.0, 0.0)


@dataclass(frozen=True)
class Picture:
    size_word: str
    background: str
    look: Look
    angle: float = 0.0
    shift: Point = (0.0, 0.0)
    flip: bool = False

    @property
    def caption(self) -> str:
        return caption("blip", self.size_word, self.background)


PICTURES = (
    Picture("large", "yellow", Look()),
    Picture("small", "white", Look(arms="wave", gaze=(0.6, -0.2)), shift=(-7, 4)),
    Picture("large", "green", Look(eyes="happy", mouth="laugh", arms="cheer", feet="jump"), angle=5),
    Picture("small", "red", Look(gaze=(-0.8, 0.0), feet="walk"), shift=(6, 6), flip=True),
    Picture("large", "gray", Look(eyes="wide", mouth="round", arms="out"), angle=-4),
    Picture("small", "yellow", Look(eyes="happy", arms="cheer", feet="jump"), shift=(5, -7), angle=-8),
    Picture("large", "white", Look(eyes="wink", arms="wave"), flip=True, angle=-6),
    Picture("small", "green", Look(eyes="wide", mouth="round", gaze=(0.3, 0.6)), shift=(-5, -4)),
    Picture("large", "red", Look(mouth="laugh", arms="out", gaze=(0.5, 0.3)), angle=8),
    Picture("small", "gray", Look(feet="walk", arms="out", gaze=(0.9, 0.1)), shift=(2, 7), angle=6),
    Picture("large", "yellow", Look(feet="walk", arms="wave", gaze=(-0.6, -0.3)), flip=True),
    Picture("large", "white", Look(mouth="laugh", arms="cheer", feet="jump", gaze=(0.0, -0.6)), angle=10),
)


def draw_blip(look: Look) -> Image.Image:
    """The creature alone, RGBA, cropped to its box."""
    sheet = Image.new("RGBA", (CANVAS, CANVAS), (0, 0, 0, 0))
    pen = ImageDraw.Draw(sheet)
    _draw_antenna(pen)
    _draw_arms(pen, look.arms)
    _draw_feet(pen, look.feet)
    _draw_body(sheet)
    _draw_scarf(sheet)
    _draw_face(pen, look)
    box = sheet.getbbox()
    assert box is not None
    return sheet.crop(box)


def _disc(pen: ImageDraw.ImageDraw, centre: Point, reach: Point, fill: Colour, outline: bool = True) -> None:
    (x, y), (rx, ry) = centre, reach
    if outline:
        pen.ellipse((x - rx - LINE, y - ry - LINE, x + rx + LINE, y + ry + LINE), fill=INK)
    pen.ellipse((x - rx, y - ry, x + rx, y + ry), fill=fill)


def _limb(pen: ImageDraw.ImageDraw, start: Point, end: Point, width: int, fill: Colour) -> None:
    """A stub with round ends, outlined."""
    for reach, colour in ((width / 2 + LINE, INK), (width / 2, fill)):
        pen.line((start, end), fill=colour, width=round(reach * 2))
        for x, y in (start, end):
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)


def _egg(grow: float) -> list[Point]:
    """The body's outline: an ellipse that is a little wider below."""
    (cx, cy), (rx, ry) = BODY_CENTRE, BODY_REACH
    turns = [2 * math.pi * step / 180 for step in range(180)]
    return [
        (cx + (rx + grow) * math.cos(turn) * (1 + 0.09 * math.sin(turn)), cy + (ry + grow) * math.sin(turn))
        for turn in turns
    ]


def _draw_antenna(pen: ImageDraw.ImageDraw) -> None:
    """One stalk that bends to the right (a quadratic Bézier curve), with a bright ball at its end."""
    start, bend, end = (512, 250), (512, 150), (606, 140)
    for step in range(41):
        t = step / 40
        x, y = ((1 - t) ** 2 * a + 2 * t * (1 - t) * b + t * t * c for a, b, c in zip(start, bend, end, strict=True))
        _disc(pen, (x, y), (21, 21), INK, outline=False)
    _disc(pen, (644, 142), (62, 62), ORANGE)
    _disc(pen, (624, 122), (19, 19), CREAM, outline=False)


def _draw_arms(pen: ImageDraw.ImageDraw, arms: Arms) -> None:
    left, right = (238.0, 590.0), (786.0, 590.0)
    hands: dict[Arms, tuple[Point, Point]] = {
        "down": ((176, 690), (848, 690)),
        "wave": ((176, 690), (880, 430)),
        "cheer": ((142, 430), (882, 430)),
        "out": ((120, 600), (904, 600)),
    }
    for shoulder, hand in zip((left, right), hands[arms], strict=True):
        _limb(pen, shoulder, hand, 84, TEAL)


def _draw_feet(pen: ImageDraw.ImageDraw, feet: Feet) -> None:
    places: dict[Feet, tuple[Point, Point]] = {
        "stand": ((386, 842), (638, 842)),
        "walk": ((346, 816), (664, 856)),
        "jump": ((338, 872), (686, 872)),
    }
    for foot in places[feet]:
        _disc(pen, foot, (108, 68), ORANGE)


def _draw_body(sheet: Image.Image) -> None:
    """Outline, dark rim, body and a light from the upper left."""
    pen = ImageDraw.Draw(sheet)
    pen.polygon(_egg(LINE), fill=INK)
    pen.polygon(_egg(0), fill=TEAL_DARK)
    _paint_inside(sheet, (172, 150, 800, 772), TEAL)
    _paint_inside(sheet, (292, 262, 430, 340), TEAL_LIGHT)


def _paint_inside(sheet: Image.Image, box: tuple[int, int, int, int], colour: Colour) -> None:
    """An ellipse clipped to the body."""
    shape = Image.new("L", sheet.size, 0)
    ImageDraw.Draw(shape).ellipse(box, fill=255)
    body = Image.new("L", sheet.size, 0)
    ImageDraw.Draw(body).polygon(_egg(0), fill=255)
    fill = Image.new("RGBA", sheet.size, (*colour, 255))
    sheet.paste(fill, mask=ImageChops.darker(shape, body))


def _draw_scarf(sheet: Image.Image) -> None:
    """A band around the lower body with upright stripes, and one loose end."""
    ink, cloth = Image.new("RGBA", sheet.size, (*INK, 255)), _weave()
    for grow, fill in ((LINE, ink), (0, cloth)):
        mask = Image.new("L", sheet.size, 0)
        ImageDraw.Draw(mask).polygon(_band(640, 752, grow), fill=255)
        sheet.paste(fill, mask=mask)
    end = [(640.0, 716.0), (768.0, 700.0), (798.0, 872.0), (672.0, 892.0)]
    pen = ImageDraw.Draw(sheet)
    pen.polygon(_grow(end, LINE), fill=INK)
    pen.polygon(end, fill=CREAM)
    pen.polygon([(650, 772), (778, 756), (788, 814), (661, 832)], fill=MAROON)


def _weave() -> Image.Image:
    """Slanting stripes over the whole sheet."""
    cloth = Image.new("RGBA", (CANVAS, CANVAS), (*CREAM, 255))
    pen = ImageDraw.Draw(cloth)
    for left in range(212, CANVAS, 2 * STRIPE):
        top, bottom = (left + 20, left + 20 + STRIPE), (left - 20 + STRIPE, left - 20)
        pen.polygon([(top[0], 560), (top[1], 560), (bottom[0], 860), (bottom[1], 860)], fill=MAROON)
    return cloth


def _band(top: float, bottom: float, grow: float) -> list[Point]:
    """The part of the body between two sagging lines, a little wider than the body, with soft ends."""
    centre, reach = BODY_CENTRE[0], 306 + grow
    across = [math.sin(math.pi / 2 * step / 24) for step in range(-24, 25)]
    upper = [(centre + x * reach, top - grow - 46 * x * x + 18 * abs(x) ** 8) for x in across]
    lower = [(centre + x * (reach - 14), bottom + grow + 14 - 66 * x * x - 20 * abs(x) ** 8) for x in reversed(across)]
    return upper + lower


def _grow(shape: list[Point], reach: float) -> list[Point]:
    """Moves each corner of a convex shape away from its middle."""
    cx, cy = (sum(values) / len(shape) for values in zip(*shape, strict=True))
    return [(x + math.copysign(reach, x - cx), y + math.copysign(reach, y - cy)) for x, y in shape]


def _draw_face(pen: ImageDraw.ImageDraw, look: Look) -> None:
    for x in (404, 620):
        _draw_eye(pen, x, "happy" if look.eyes == "wink" and x > 512 else look.eyes, look.gaze)
    for x in (284, 740):
        _disc(pen, (x, 560), (46, 30), ROSE, outline=False)
    _draw_mouth(pen, look.mouth)


def _draw_eye(pen: ImageDraw.ImageDraw, x: float, eyes: Eyes, gaze: Point) -> None:
    if eyes == "happy":
        pen.arc((x - 72, 390, x + 72, 530), 195, 345, fill=INK, width=38)
        return
    reach = (98.0, 112.0) if eyes == "wide" else (90.0, 100.0)
    _disc(pen, (x, 450), reach, WHITE)
    pupil = 44.0 if eyes == "wide" else 54.0
    px, py = x + gaze[0] * 34, 456 + gaze[1] * 38
    _disc(pen, (px, py), (pupil, pupil + 6), INK, outline=False)
    _disc(pen, (px - 18, py - 22), (19, 19), WHITE, outline=False)


def _draw_mouth(pen: ImageDraw.ImageDraw, mouth: Mouth) -> None:
    if mouth == "smile":
        pen.arc((452, 484, 572, 606), 15, 165, fill=INK, width=28)
    elif mouth == "laugh":
        pen.chord((440, 484, 584, 628), 0, 180, fill=INK)
        pen.ellipse((478, 576, 546, 622), fill=ROSE)
    else:
        pen.ellipse((480, 550, 544, 622), fill=INK)


def compose_picture(picture: Picture) -> Image.Image:
    """RGB, SIZE x SIZE pixels."""
    x, y = picture.shift
    pose = Pose(SCALES[picture.size_word], picture.angle, x, y, picture.flip)
    return compose(draw_blip(picture.look), BACKGROUNDS[picture.background], pose, SIZE)


def write_set(folder: Path) -> Iterator[Path]:
    """Writes ``blip-01.png`` with ``blip-01.txt`` and so on; yields the images' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(PICTURES, start=1):
        path = folder / f"blip-{number:02}.png"
        compose_picture(picture).save(path, optimize=True)
        path.with_suffix(".txt").write_text(picture.caption + "\n")
        yield path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples/blip"))
    for path in write_set(parser.parse_args().out):
        print(path)


if __name__ == "__main__":
    main()
