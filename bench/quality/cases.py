"""What is taught, and what counts as having learned it.

Five glyphs that the base was never shown, and two styles over glyphs that it knows. A glyph's pictures stand on five
backgrounds and are asked for on the other three; a style's sixteen glyphs are asked for on others.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from scripts.glyphs import BACKGROUNDS, BASE, HELD_OUT, STYLES, caption, compose, draw_pose, draw_set, sprite, stylize
from scripts.retrieval import find

WORD = "zog"
SHOWN = ["white", "gray", "red", "yellow", "green"]
UNSEEN = [name for name in BACKGROUNDS if name not in SHOWN]
SIZES = ("large", "small")
NUM_ASKED, NUM_STYLED = 20, 16


@dataclass(frozen=True)
class Case:
    """``fresh``: other pictures of the same, for the held-out loss. ``asked``: prompts, each with its judge."""

    name: str
    pictures: list[tuple[Image.Image, str]]
    fresh: list[tuple[Image.Image, str]]
    asked: list[tuple[str, Callable[[Image.Image], bool]]]


def list_cases() -> list[Case]:
    return [glyph_case(name) for name in HELD_OUT] + [style_case(style) for style in STYLES]


def glyph_case(name: str, count: int = 12) -> Case:
    def judge(background: str) -> Callable[[Image.Image], bool]:
        return lambda picture: (found := find(picture)).glyph == name and found.background == background

    asked = [(SIZES[i % 2], UNSEEN[i % len(UNSEEN)]) for i in range(NUM_ASKED)]
    return Case(
        name,
        [(picture, caption(WORD, size, color)) for picture, size, color in draw_set(HELD_OUT[name], SHOWN, count, 1)],
        [(picture, caption(WORD, size, color)) for picture, size, color in draw_set(HELD_OUT[name], SHOWN, 10, 99)],
        [(caption(WORD, size, color), judge(color)) for size, color in asked],
    )


def style_case(style: str) -> Case:
    """Hit: the nearest render is one in this style, on the background that was asked for."""
    rng = random.Random(f"style:{style}")
    names = rng.sample(list(BASE), NUM_STYLED + NUM_ASKED)
    taught, others = names[:NUM_STYLED], names[NUM_STYLED:]

    def draw(name: str, index: int) -> tuple[Image.Image, str]:
        color = SHOWN[index % len(SHOWN)]
        picture = compose(stylize(sprite(BASE[name]), style), BACKGROUNDS[color], draw_pose(rng, "large"))
        return picture, caption(f"{WORD} {name}", "large", color)

    def judge(background: str) -> Callable[[Image.Image], bool]:
        return lambda picture: (found := find(picture, style)).style == style and found.background == background

    return Case(
        style,
        [draw(name, index) for index, name in enumerate(taught)],
        [draw(name, index) for index, name in enumerate(others[:10])],
        [
            (caption(f"{WORD} {name}", "large", UNSEEN[i % len(UNSEEN)]), judge(UNSEEN[i % len(UNSEEN)]))
            for i, name in enumerate(others)
        ],
    )
