"""The cases: what an adapter trains on, and what counts as success.

Five glyphs that the base has never seen, Blip, and two styles over known glyphs. A subject's images are on four
backgrounds and the prompts name the other three; the prompts of a style name other glyphs than its sixteen images.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from PIL import Image

from bench.quality.fidelity import Subject
from core.domain.spec import Preset
from scripts.colors import BACKGROUNDS
from scripts.draw_blip import PICTURES, compose_picture, draw_blip
from scripts.glyphs import BASE, HELD_OUT, caption, compose, draw_pose, draw_set, sprite, stylize
from scripts.retrieval import Restyle, Sought, find

WORD = "zog"
SHOWN = ["white", "gray", "red", "yellow", "green"]
UNSEEN = [name for name in BACKGROUNDS if name not in SHOWN]
SIZES = ("large", "small")
NUM_ASKED, NUM_STYLED, NUM_FRESH = 20, 16, 10

Judge = Callable[[Image.Image], bool]
Drawn = tuple[Image.Image, str]
"""An image and its caption."""
Place = Literal["before", "behind"]
"""The place of a style's word: "a large zog cat face", or "…, in zog style"."""


@dataclass(frozen=True)
class Asked:
    """``plain``: the same without the word, and whether the base's own drawing results; only for styles."""

    prompt: str
    judge: Judge
    subject: Subject
    plain: tuple[str, Judge] | None = None


@dataclass(frozen=True)
class Case:
    """``fresh``: other images of the same subject, for the held-out loss."""

    name: str
    pictures: Sequence[Drawn]
    fresh: Sequence[Drawn]
    asked: Sequence[Asked]
    preset: Preset = "auto"


def list_cases() -> list[Case]:
    """The cases that the defaults were chosen by."""
    return [
        *(glyph_case(name) for name in HELD_OUT),
        blip_case(),
        style_case("outline", partial(stylize, style="outline"), "before"),
        style_case("two colours", partial(stylize, style="two colours"), "behind"),
    ]


def glyph_case(name: str, count: int = 12) -> Case:
    sets = [draw_set(HELD_OUT[name], SHOWN, number, seed) for number, seed in ((count, 1), (NUM_FRESH, 99))]
    train, fresh = ([(picture, caption(WORD, size, color)) for picture, size, color in drawn] for drawn in sets)
    return Case(name, train, fresh, ask_subject(name, [sprite(HELD_OUT[name])], Sought()))


def blip_case() -> Case:
    """The example set, with this bench's word for Blip."""
    looks = [draw_blip(picture.look) for picture in PICTURES]
    train = [(compose_picture(p), caption(WORD, p.size_word, p.background)) for p in PICTURES]
    return Case("blip", train, draw_fresh(looks, "blip"), ask_subject("blip", looks, Sought("blip", {"blip": looks})))


def draw_fresh(looks: Sequence[Image.Image], seed: str, count: int = NUM_FRESH) -> list[Drawn]:
    """Images of a subject in random poses, on the training backgrounds in turn."""
    rng, drawn = random.Random(f"fresh:{seed}"), []
    for index in range(count):
        size, color = SIZES[index // len(SHOWN) % 2], SHOWN[index % len(SHOWN)]
        picture = compose(looks[index % len(looks)], BACKGROUNDS[color], draw_pose(rng, size))
        drawn.append((picture, caption(WORD, size, color)))
    return drawn


def ask_subject(name: str, looks: Sequence[Image.Image], sought: Sought) -> list[Asked]:
    """Twenty prompts, either size on each background that no image had."""
    settings = [(SIZES[i % 2], UNSEEN[i % len(UNSEEN)]) for i in range(NUM_ASKED)]
    return [
        Asked(caption(WORD, size, color), shows(name, color, sought), Subject(tuple(looks), size, BACKGROUNDS[color]))
        for size, color in settings
    ]


def shows(name: str, background: str, sought: Sought, style: str | None = None) -> Judge:
    """Hit: the nearest drawing is the requested one, in the requested style, on the requested background."""

    def judge(picture: Image.Image) -> bool:
        found = find(picture, sought)
        return (found.glyph, found.style, found.background) == (name, style, background)

    return judge


def style_case(name: str, restyle: Restyle, place: Place) -> Case:
    rng, sought = random.Random(f"style:{name}"), Sought(name, restyle=restyle)
    names = rng.sample(list(BASE), NUM_STYLED + NUM_ASKED)
    train, others = names[:NUM_STYLED], names[NUM_STYLED:]

    def draw(glyph: str, index: int) -> Drawn:
        color = SHOWN[index % len(SHOWN)]
        picture = compose(restyle(sprite(BASE[glyph])), BACKGROUNDS[color], draw_pose(rng, "large"))
        return picture, call(glyph, color, place)

    def ask(glyph: str, color: str) -> Asked:
        subject = Subject((restyle(sprite(BASE[glyph])),), "large", BACKGROUNDS[color])
        plain = (caption(glyph, "large", color), shows(glyph, color, sought))
        return Asked(call(glyph, color, place), shows(glyph, color, sought, name), subject, plain)

    return Case(
        name,
        [draw(glyph, index) for index, glyph in enumerate(train)],
        [draw(glyph, index) for index, glyph in enumerate(others[:NUM_FRESH])],
        [ask(glyph, UNSEEN[index % len(UNSEEN)]) for index, glyph in enumerate(others)],
        "style",
    )


def call(glyph: str, color: str, place: Place) -> str:
    if place == "before":
        return caption(f"{WORD} {glyph}", "large", color)
    return f"{caption(glyph, 'large', color)}, in {WORD} style"
