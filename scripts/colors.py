"""The colours that the bundled base knows by name: for backgrounds, and for the parts of a drawing."""

import random

Color = tuple[int, int, int]

BACKGROUNDS: dict[str, Color] = {
    "white": (244, 244, 244),
    "gray": (140, 144, 150),
    "red": (214, 72, 72),
    "yellow": (246, 214, 96),
    "green": (104, 186, 110),
    "blue": (86, 140, 226),
    "purple": (150, 100, 200),
    "pink": (248, 170, 204),
}
"""The measures' colours, each exactly so."""

MORE_BACKGROUNDS: dict[str, Color] = {
    "black": (24, 24, 28),
    "orange": (244, 150, 62),
    "brown": (132, 88, 56),
    "teal": (48, 160, 160),
    "navy": (36, 52, 110),
    "cyan": (120, 214, 232),
    "lime": (176, 220, 84),
    "beige": (232, 216, 184),
    "lavender": (200, 184, 236),
    "mint": (172, 230, 200),
    "maroon": (124, 36, 52),
    "olive": (124, 128, 60),
}

PARTS: dict[str, Color] = {
    "white": (250, 250, 250),
    "gray": (140, 142, 148),
    "black": (34, 34, 38),
    "red": (220, 48, 48),
    "orange": (248, 144, 40),
    "yellow": (250, 210, 56),
    "lime": (160, 216, 60),
    "green": (56, 160, 72),
    "teal": (28, 170, 170),
    "cyan": (92, 206, 232),
    "blue": (52, 110, 220),
    "navy": (30, 44, 106),
    "purple": (134, 72, 190),
    "magenta": (212, 56, 160),
    "pink": (248, 150, 190),
    "brown": (140, 88, 48),
    "beige": (240, 220, 180),
    "maroon": (140, 30, 60),
    "mint": (150, 228, 196),
    "gold": (222, 170, 40),
}


def vary(rng: random.Random, color: Color, reach: int = 14) -> Color:
    """A shade that still goes by the same name."""
    r, g, b = (min(255, max(0, value + rng.randint(-reach, reach))) for value in color)
    return r, g, b


def shade(color: Color, factor: float) -> Color:
    """Darker below 1, lighter above (towards white by what exceeds 1)."""
    if factor <= 1:
        r, g, b = (round(value * factor) for value in color)
    else:
        r, g, b = (round(value + (255 - value) * (factor - 1)) for value in color)
    return r, g, b


def distance(a: Color, b: Color) -> float:
    """Euclidean, in RGB levels."""
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5
