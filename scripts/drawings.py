"""Drawings that no font has: random shapes, creatures and things, described part by part.

From them the bundled base learns that words are parts and colours ("a teal round creature with a striped scarf"), while
glyphs stand for whole names. Each is a pure function of its generator. None shows a robot, a fox, an octopus, a cactus
or a rocket, which the base must not know.
"""

import random

from scripts.colors import PARTS
from scripts.creatures import draw_creature, draw_face
from scripts.sheet import (
    CANVAS,
    Drawing,
    Point,
    ellipse_of,
    heart_of,
    new_sheet,
    paint_pattern,
    pick_color,
    regular_of,
    star_of,
)
from scripts.things import draw_thing


def draw_any(rng: random.Random) -> Drawing:
    """Mostly creatures, then things, shapes and targets."""
    kind = rng.random()
    if kind < 0.55:
        return draw_creature(rng)
    if kind < 0.75:
        return draw_thing(rng)
    return draw_shape(rng) if kind < 0.95 else draw_ring(rng)


def draw_shape(rng: random.Random) -> Drawing:
    """One geometric shape, plain, patterned or with a face."""
    sheet, middle = new_sheet(rng), (CANVAS / 2, CANVAS / 2)
    outlines: dict[str, list[Point]] = {
        "circle": ellipse_of((44, 44, 244, 244)),
        "oval": ellipse_of((30, 76, 258, 212)),
        "square": ellipse_of((52, 52, 236, 236), power=40),
        "rounded square": ellipse_of((48, 48, 240, 240), power=5),
        "rectangle": ellipse_of((28, 82, 260, 206), power=40),
        "triangle": regular_of((144, 164), 124, 3),
        "pentagon": regular_of(middle, 116, 5),
        "hexagon": regular_of(middle, 116, 6),
        "diamond": [(144, 24), (232, 144), (144, 264), (56, 144)],
        "star shape": star_of(middle, 124, 5, 0.45),
        "burst": star_of(middle, 122, rng.choice((8, 10, 12)), 0.68),
        "heart shape": heart_of((144, 140), 118),
        "drop": [(144, 20), *[(x, y) for x, y in ellipse_of((70, 100, 218, 256)) if y > 150 or x > 0][2:35]],
    }
    shape = rng.choice(list(outlines))
    name, color = pick_color(rng)
    mask = sheet.solid(outlines[shape], color)
    pattern = paint_pattern(rng, sheet, mask, color)
    parts = [pattern] if pattern else []
    if rng.random() < 0.35:
        parts += draw_face(rng, sheet, (144, 136), 0.75)
    return Drawing(sheet.cropped(), f"{name} {shape}", tuple(parts))


def draw_ring(rng: random.Random) -> Drawing:
    """A target of two or three colours."""
    sheet = new_sheet(rng)
    (first, a), (second, b) = pick_color(rng), ("", PARTS["white"])
    second, b = pick_color(rng, a)
    for turn, reach in enumerate((112, 84, 56, 28)[: rng.choice((2, 3, 4))]):
        sheet.disc((144, 144), reach, reach, (a, b)[turn % 2])
    return Drawing(sheet.cropped(), f"{first} and {second} target")
