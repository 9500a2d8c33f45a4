"""A sheet to draw on, outlines and patterns: the parts of the bundled base's drawings."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image, ImageChops, ImageDraw

from scripts.colors import PARTS, Color, distance, shade, vary

CANVAS = 288
"""Side of the sheet in pixels; a drawing keeps 36 pixels free around its body, for limbs and hats."""

Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass
class Sheet:
    """An RGBA canvas with one line width. ``line`` is 0 if the drawing has no outlines; ``shaded`` bodies have a
    lighter and a darker side."""

    rng: random.Random
    line: int
    ink: Color
    shaded: bool
    image: Image.Image = field(default_factory=lambda: Image.new("RGBA", (CANVAS, CANVAS), (0, 0, 0, 0)))

    @property
    def pen(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)

    def disc(self, center: Point, rx: float, ry: float, fill: Color, line: int | None = None) -> None:
        (x, y), edge = center, self.line if line is None else line
        if edge:
            self.pen.ellipse((x - rx - edge, y - ry - edge, x + rx + edge, y + ry + edge), fill=self.ink)
        self.pen.ellipse((x - rx, y - ry, x + rx, y + ry), fill=fill)

    def limb(self, points: list[Point], width: float, fill: Color) -> None:
        """A stroke with round ends and joints."""
        for reach, color in ((width / 2 + self.line, self.ink), (width / 2, fill)):
            if color is self.ink and not self.line:
                continue
            self.pen.line(points, fill=color, width=round(2 * reach))
            for x, y in points:
                self.pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=color)

    def polygon(self, points: list[Point], fill: Color) -> None:
        if self.line:
            self.pen.line([*points, points[0], points[1]], fill=self.ink, width=2 * self.line, joint="curve")
        self.pen.polygon(points, fill=fill)

    def solid(self, points: list[Point], fill: Color) -> Image.Image:
        """A polygon with light and shade within its edge; returns its mask."""
        self.polygon(points, fill)
        mask = Image.new("L", self.image.size, 0)
        ImageDraw.Draw(mask).polygon(points, fill=255)
        if self.shaded:
            xs, ys = [x for x, _ in points], [y for _, y in points]
            width, height = max(xs) - min(xs), max(ys) - min(ys)
            for factor, offset, size in ((0.74, 0.0, 1.2), (1.0, -0.09, 0.98), (1.45, -0.22, 0.34)):
                cx, cy = sum(xs) / len(xs) + offset * width, sum(ys) / len(ys) + 1.2 * offset * height
                box = (cx - size * width / 2, cy - size * height / 2, cx + size * width / 2, cy + size * height / 2)
                self.within(mask, shade(fill, factor), lambda pen, box=box: pen.ellipse(box, fill=255))
        return mask

    def within(self, mask: Image.Image, fill: Color, draw: Callable[[ImageDraw.ImageDraw], object]) -> None:
        """Paints the output of ``draw`` on an L plane, within the mask."""
        plane = Image.new("L", self.image.size, 0)
        draw(ImageDraw.Draw(plane))
        self.image.paste(Image.new("RGBA", self.image.size, (*fill, 255)), mask=ImageChops.darker(plane, mask))

    def cropped(self) -> Image.Image:
        box = self.image.getbbox()
        assert box is not None
        return self.image.crop(box)


@dataclass(frozen=True)
class Drawing:
    """RGBA, cropped to its box, with the words for it: ``noun`` alone, and ``parts`` that may follow "with"."""

    image: Image.Image
    noun: str
    parts: tuple[str, ...] = ()

    def describe(self, rng: random.Random) -> str:
        """The noun with some of its parts, in any order."""
        count = rng.choice((0, 1, 2, 2, 3, 3, 4))
        chosen = rng.sample(self.parts, min(count, len(self.parts)))
        if not chosen:
            return self.noun
        head, last = chosen[:-1], chosen[-1]
        return f"{self.noun} with " + (f"{', '.join(head)} and {last}" if head else last)


def pick_color(rng: random.Random, unlike: Color | None = None) -> tuple[str, Color]:
    """A named colour in a shade of its own, visible beside ``unlike``."""
    while True:
        name, color = rng.choice(list(PARTS.items()))
        if unlike is None or distance(color, unlike) > 90:
            return name, vary(rng, color)


def new_sheet(rng: random.Random) -> Sheet:
    ink = rng.choice((PARTS["black"], PARTS["navy"], (60, 36, 28), (13, 62, 74), (90, 30, 60)))
    return Sheet(rng, rng.choice((0, 0, 3, 4, 6, 8)), ink, rng.random() < 0.5)


def ellipse_of(box: Box, squash: float = 0.0, power: float = 2.0) -> list[Point]:
    """A superellipse; ``squash`` makes it wider below (positive) or above."""
    left, top, right, bottom = box
    cx, cy, rx, ry = (left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2
    points = []
    for step in range(72):
        turn = 2 * math.pi * step / 72
        c, s = math.cos(turn), math.sin(turn)
        x = math.copysign(abs(c) ** (2 / power), c)
        y = math.copysign(abs(s) ** (2 / power), s)
        points.append((cx + rx * x * (1 + squash * y), cy + ry * y))
    return points


def star_of(center: Point, reach: float, spikes: int, depth: float) -> list[Point]:
    points = []
    for step in range(2 * spikes):
        turn, r = math.pi * step / spikes - math.pi / 2, reach if step % 2 == 0 else reach * depth
        points.append((center[0] + r * math.cos(turn), center[1] + r * math.sin(turn)))
    return points


def regular_of(center: Point, reach: float, sides: int) -> list[Point]:
    offset = math.pi / sides if sides % 2 == 0 else 0.0
    turns = [2 * math.pi * k / sides - math.pi / 2 + offset for k in range(sides)]
    return [(center[0] + reach * math.cos(t), center[1] + reach * math.sin(t)) for t in turns]


def heart_of(center: Point, reach: float) -> list[Point]:
    points = []
    for step in range(72):
        t = 2 * math.pi * step / 72
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((center[0] + x * reach / 17, center[1] - y * reach / 17))
    return points


def paint_pattern(rng: random.Random, sheet: Sheet, mask: Image.Image, body: Color) -> str | None:
    """Stripes, spots, a checkered cloth or a colour gradient within the mask; returns its words, or None for plain."""
    kind = rng.choice(("plain", "plain", "stripes", "bands", "spots", "checks", "gradient"))
    if kind == "plain":
        return None
    name, color = pick_color(rng, body)
    step = rng.choice((22, 30, 40))
    if kind == "gradient":
        ramp = Image.linear_gradient("L").resize(sheet.image.size)
        sheet.image.paste(Image.new("RGBA", sheet.image.size, (*color, 255)), mask=ImageChops.multiply(ramp, mask))
        return f"a {name} gradient"
    sheet.within(mask, color, lambda pen: mark(pen, kind, step, rng.uniform(-12, 12)))
    return {
        "stripes": f"{name} stripes",
        "bands": f"{name} bands",
        "spots": f"{name} spots",
        "checks": f"{name} checks",
    }[kind]


def mark(pen: ImageDraw.ImageDraw, kind: str, step: int, slant: float) -> None:
    for a in range(-step, CANVAS + step, 2 * step):
        if kind == "stripes":
            pen.polygon(
                [(a + slant, 0), (a + step + slant, 0), (a + step - slant, CANVAS), (a - slant, CANVAS)], fill=255
            )
        elif kind == "bands":
            pen.rectangle((0, a, CANVAS, a + step), fill=255)
        else:
            for row, b in enumerate(range(0, CANVAS, step)):
                x = a + (step if row % 2 else 0)
                box = (x, b, x + step, b + step) if kind == "checks" else (x, b, x + 0.62 * step, b + 0.62 * step)
                (pen.rectangle if kind == "checks" else pen.ellipse)(box, fill=255)
