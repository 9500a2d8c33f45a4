"""Simple things of two to four coloured parts: a hut, a cup, a boat."""

import math
import random
from collections.abc import Callable

from scripts.colors import PARTS, Color, shade
from scripts.creatures import draw_eye
from scripts.sheet import CANVAS, Drawing, Sheet, ellipse_of, new_sheet, paint_pattern, pick_color


def draw_thing(rng: random.Random) -> Drawing:
    """A simple thing of two to four coloured parts."""
    sheet = new_sheet(rng)
    (name, color), (second, other) = pick_color(rng), pick_color(rng)
    noun, part = rng.choice(THINGS)(sheet, color, other)
    return Drawing(sheet.cropped(), f"{name} {noun}", (f"{part[0]}{second} {part[1]}",))


Part = tuple[str, tuple[str, str]]


def _thing_hut(sheet: Sheet, color: Color, other: Color) -> Part:
    sheet.solid([(70, 130), (218, 130), (218, 250), (70, 250)], color)
    sheet.polygon([(50, 134), (144, 44), (238, 134)], other)
    sheet.polygon([(124, 250), (124, 182), (164, 182), (164, 250)], shade(color, 0.55))
    return "hut", ("a ", "roof")


def _thing_cup(sheet: Sheet, color: Color, other: Color) -> Part:
    sheet.limb([(206, 110), (252, 122), (248, 176), (204, 190)], 16, color)
    mask = sheet.solid([(66, 76), (214, 76), (200, 236), (80, 236)], color)
    sheet.within(mask, other, lambda pen: pen.rectangle((0, 130, CANVAS, 172), fill=255))
    return "cup", ("a ", "band")


def _thing_flower(sheet: Sheet, color: Color, other: Color) -> Part:
    sheet.limb([(144, 140), (144, 262)], 12, PARTS["green"])
    petals = sheet.rng.choice((5, 6, 8))
    for k in range(petals):
        turn = 2 * math.pi * k / petals
        sheet.disc((144 + 56 * math.cos(turn), 112 + 56 * math.sin(turn)), 32, 32, color)
    sheet.disc((144, 112), 32, 32, other)
    return "flower", ("a ", "center")


def _thing_boat(sheet: Sheet, color: Color, other: Color) -> Part:
    sheet.limb([(144, 50), (144, 190)], 8, (110, 76, 48))
    sheet.polygon([(152, 52), (236, 168), (152, 168)], other)
    sheet.solid([(40, 186), (248, 186), (208, 244), (84, 244)], color)
    return "boat", ("a ", "sail")


def _thing_cart(sheet: Sheet, color: Color, other: Color) -> Part:
    sheet.solid(ellipse_of((36, 96, 252, 206), power=5), color)
    sheet.polygon([(76, 112), (134, 112), (134, 152), (76, 152)], (204, 230, 244))
    sheet.polygon([(154, 112), (212, 112), (212, 152), (154, 152)], (204, 230, 244))
    for x in (90, 198):
        sheet.disc((x, 210), 34, 34, other)
        sheet.disc((x, 210), 12, 12, PARTS["white"], 0)
    return "cart", ("", "wheels")


def _thing_tree(sheet: Sheet, color: Color, other: Color) -> Part:
    sheet.polygon([(126, 160), (162, 160), (168, 262), (120, 262)], other)
    for center in ((104, 128), (184, 128), (144, 82)):
        sheet.disc(center, 58, 54, color)
    return "tree shape", ("a ", "trunk")


def _thing_box(sheet: Sheet, color: Color, other: Color) -> Part:
    sheet.solid([(52, 100), (236, 100), (236, 244), (52, 244)], color)
    sheet.polygon([(126, 100), (162, 100), (162, 244), (126, 244)], other)
    sheet.polygon([(44, 72), (244, 72), (244, 108), (44, 108)], shade(color, 0.85))
    return "box", ("a ", "ribbon")


def _thing_bottle(sheet: Sheet, color: Color, other: Color) -> Part:
    sheet.polygon([(122, 24), (166, 24), (166, 60), (122, 60)], other)
    mask = sheet.solid([(122, 60), (166, 60), (206, 120), (206, 256), (82, 256), (82, 120)], color)
    sheet.within(mask, PARTS["white"], lambda pen: pen.rectangle((0, 150, CANVAS, 210), fill=255))
    return "bottle", ("a ", "cap")


def _thing_flag(sheet: Sheet, color: Color, other: Color) -> Part:
    sheet.limb([(64, 34), (64, 262)], 12, (120, 90, 60))
    mask = sheet.solid([(72, 40), (248, 60), (248, 172), (72, 160)], color)
    sheet.within(mask, other, lambda pen: pen.rectangle((0, 88, CANVAS, 126), fill=255))
    return "flag", ("a ", "stripe")


def _thing_mushroom(sheet: Sheet, color: Color, other: Color) -> Part:
    sheet.solid([(112, 140), (176, 140), (188, 250), (100, 250)], PARTS["beige"])
    mask = sheet.solid(ellipse_of((40, 50, 248, 250))[36:72], color)
    for center in ((90, 118), (144, 84), (204, 116)):
        sheet.within(
            mask, other, lambda pen, c=center: pen.ellipse((c[0] - 18, c[1] - 18, c[0] + 18, c[1] + 18), fill=255)
        )
    return "toadstool", ("", "spots")


def _thing_lamp(sheet: Sheet, color: Color, other: Color) -> Part:
    sheet.limb([(144, 130), (144, 240)], 14, other)
    sheet.disc((144, 246), 56, 16, other)
    sheet.solid([(106, 40), (182, 40), (226, 140), (62, 140)], color)
    return "lamp", ("a ", "foot")


def _thing_fish(sheet: Sheet, color: Color, other: Color) -> Part:
    sheet.polygon([(200, 144), (262, 92), (262, 200)], other)
    sheet.polygon([(120, 92), (176, 52), (184, 110)], other)
    mask = sheet.solid(ellipse_of((28, 86, 220, 206)), color)
    paint_pattern(sheet.rng, sheet, mask, color)
    draw_eye(sheet, (78, 132), 18, "big", (0, 0))
    return "fish shape", ("", "fins")


THINGS: tuple[Callable[[Sheet, Color, Color], Part], ...] = (
    _thing_hut, _thing_cup, _thing_flower, _thing_boat, _thing_cart, _thing_tree, _thing_box, _thing_bottle,
    _thing_flag, _thing_mushroom, _thing_lamp, _thing_fish,
)  # fmt: skip
