"""Faces, and creatures with limbs, head-dresses, patterns and something to wear."""

import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from scripts.colors import PARTS, Color, shade
from scripts.sheet import Drawing, Point, Sheet, ellipse_of, mark, new_sheet, paint_pattern, pick_color


def draw_face(rng: random.Random, sheet: Sheet, center: Point, size: float) -> list[str]:
    """Eyes and a mouth around a point; returns their words."""
    x, y = center
    kind = rng.choice(("big", "big", "dot", "happy", "one", "sleepy"))
    gap, reach = rng.uniform(36, 50) * size, rng.uniform(24, 32) * size
    spots = [(x, y)] if kind == "one" else [(x - gap, y), (x + gap, y)]
    gaze = (rng.uniform(-0.35, 0.35) * reach, rng.uniform(-0.3, 0.3) * reach)
    for ex, ey in spots:
        draw_eye(sheet, (ex, ey), reach * (1.35 if kind == "one" else 1), kind, gaze)
    mouth = rng.choice(("smile", "laugh", "round", "none", "beak"))
    my, width = y + rng.uniform(40, 52) * size, rng.uniform(22, 38) * size
    if mouth == "smile":
        sheet.pen.arc(
            (x - width, my - width, x + width, my + width * 0.6), 20, 160, fill=sheet.ink, width=max(5, round(8 * size))
        )
    elif mouth == "laugh":
        sheet.pen.chord((x - width, my - width, x + width, my + width), 0, 180, fill=sheet.ink)
    elif mouth == "round":
        sheet.disc((x, my), width * 0.4, width * 0.5, sheet.ink, 0)
    elif mouth == "beak":
        beak, color = pick_color(rng)
        sheet.polygon([(x - width * 0.6, my - 10), (x + width * 0.6, my - 10), (x, my + 24 * size)], color)
        mouth = f"{beak} beak"
    if rng.random() < 0.3:
        for side in (-1, 1):
            sheet.disc((x + side * gap * 1.7, y + 34 * size), 16 * size, 11 * size, (250, 140, 140), 0)
    words = {"big": "big eyes", "dot": "small eyes", "happy": "happy eyes", "one": "one eye", "sleepy": "sleepy eyes"}
    return [words[kind]] + (
        [] if mouth == "none" else ["a " + {"laugh": "laughing mouth", "round": "round mouth"}.get(mouth, mouth)]
    )


def draw_eye(sheet: Sheet, at: Point, reach: float, kind: str, gaze: Point) -> None:
    x, y = at
    if kind == "dot":
        sheet.disc(at, reach * 0.45, reach * 0.5, sheet.ink, 0)
    elif kind == "happy":
        sheet.pen.arc(
            (x - reach, y - reach, x + reach, y + reach), 195, 345, fill=sheet.ink, width=max(5, round(reach * 0.4))
        )
    elif kind == "sleepy":
        sheet.pen.arc(
            (x - reach, y - reach, x + reach, y + reach), 20, 160, fill=sheet.ink, width=max(5, round(reach * 0.35))
        )
    else:
        sheet.disc(at, reach, reach * 1.1, PARTS["white"])
        px, py, pupil = x + gaze[0], y + gaze[1], reach * 0.56
        sheet.disc((px, py), pupil, pupil * 1.1, sheet.ink, 0)
        sheet.disc((px - pupil * 0.35, py - pupil * 0.4), pupil * 0.35, pupil * 0.35, PARTS["white"], 0)


BODIES: dict[str, Callable[[], list[Point]]] = {
    "round": lambda: ellipse_of((60, 64, 228, 232)),
    "egg-shaped": lambda: ellipse_of((66, 58, 222, 236), squash=0.14),
    "tall": lambda: ellipse_of((84, 44, 204, 240), power=3),
    "wide": lambda: ellipse_of((44, 88, 244, 226), power=2.6),
    "square": lambda: ellipse_of((64, 70, 224, 230), power=7),
    "pear-shaped": lambda: ellipse_of((62, 54, 226, 236), squash=0.3),
    "pointed": lambda: [(144, 40), *ellipse_of((64, 90, 224, 236))[2:35]],
}


def draw_creature(rng: random.Random) -> Drawing:
    """A body with a face, limbs and, at times, a head-dress, a belly, a pattern and something to wear."""
    sheet = new_sheet(rng)
    kind = rng.choice(list(BODIES))
    name, color = pick_color(rng)
    parts = _draw_head(rng, sheet, color)
    parts += _draw_limbs(rng, sheet, color)
    mask = sheet.solid(BODIES[kind](), color)
    if rng.random() < 0.3:
        belly, light = pick_color(rng, color)
        sheet.within(mask, light, lambda pen: pen.ellipse((100, 146, 188, 262), fill=255))
        parts.append(f"a {belly} belly")
    elif rng.random() < 0.4:
        pattern = paint_pattern(rng, sheet, mask, color)
        parts += [pattern] if pattern else []
    face = draw_face(rng, sheet, (144, rng.uniform(112, 132)), rng.uniform(0.7, 1.0))
    wear = _draw_wear(rng, sheet, color)
    noun = rng.choice(("creature", "creature", "monster", "character", "animal"))
    return Drawing(sheet.cropped(), f"{name} {kind} {noun}", tuple(dict.fromkeys([*parts, *face, *wear])))


def _draw_head(rng: random.Random, sheet: Sheet, body: Color) -> list[str]:
    kind = rng.choice(
        ("none", "none", "antenna", "antennae", "round ears", "pointed ears", "long ears", "horns", "tuft")
    )
    name, color = pick_color(rng)
    if kind in ("antenna", "antennae"):
        lean = rng.uniform(-40, 40)
        for x, end in ((144, 144 + lean),) if kind == "antenna" else ((116, 92), (172, 196)):
            sheet.limb([(x, 84), (x, 44), (end, 34)], 8, sheet.ink)
            sheet.disc((end, 32), 17, 17, color)
        return [f"a {name} antenna" if kind == "antenna" else f"{name} antennae"]
    if kind == "none":
        return []
    if kind == "tuft":
        for x in (-26, 0, 26):
            sheet.limb([(144, 84), (144 + x, 36)], 14, color)
        return [f"a {name} tuft"]
    name, color = ("", body) if rng.random() < 0.5 else (f"{name} ", color)
    for side in (-1, 1):
        x = 144 + side * 54
        if kind == "round ears":
            sheet.disc((x, 74), 30, 30, color)
        elif kind == "long ears":
            sheet.disc((144 + side * 34, 54), 18, 48, color)
        else:
            tip = (x + side * (26 if kind == "horns" else 12), 26)
            sheet.polygon([(x - 26, 96), tip, (x + 26, 108)], color)
    return [f"{name}{kind}"]


def _draw_limbs(rng: random.Random, sheet: Sheet, body: Color) -> list[str]:
    parts = []
    if rng.random() < 0.7:
        name, color = ("", body) if rng.random() < 0.5 else pick_color(rng)
        for side in (-1, 1):
            hand = (144 + side * rng.uniform(104, 128), rng.choice((104, 150, 190, 214)))
            sheet.limb([(144 + side * 70, 160), hand], rng.uniform(20, 32), color)
        parts.append(f"{name} arms".strip())
    legs = rng.choice(("none", "feet", "feet", "legs", "four legs", "wheels", "tail"))
    if legs == "none":
        return parts
    name, color = pick_color(rng)
    xs = (88, 126, 162, 200) if legs == "four legs" else (108, 180)
    if legs == "tail":
        sheet.limb([(200, 204), (252, 210), (266, 160)], 22, color)
        return [*parts, f"a {name} tail"]
    for x in xs:
        if legs == "wheels":
            sheet.disc((x, 236), 26, 26, color)
            sheet.disc((x, 236), 9, 9, PARTS["white"], 0)
        elif legs == "feet":
            sheet.disc((x, 240), 34, 20, color)
        else:
            sheet.limb([(x, 208), (x, 258)], 20, color)
    return [*parts, f"{name} {legs}"]


def _draw_wear(rng: random.Random, sheet: Sheet, body: Color) -> list[str]:
    kind = rng.choice(("none", "none", "scarf", "scarf", "hat", "cap", "bow tie", "belt", "crown", "collar", "buttons"))
    name, color = pick_color(rng, body)
    if kind == "none":
        return []
    if kind in ("scarf", "belt", "collar"):
        return [_draw_band(rng, sheet, kind, name, color)]
    if kind == "hat":
        sheet.polygon([(92, 84), (196, 84), (196, 70), (176, 70), (176, 20), (112, 20), (112, 70), (92, 70)], color)
    elif kind == "cap":
        sheet.polygon([(90, 84), *ellipse_of((92, 26, 196, 140))[36:72], (230, 84), (196, 92)], color)
    elif kind == "crown":
        sheet.polygon([(96, 84), (92, 30), (120, 58), (144, 24), (168, 58), (196, 30), (192, 84)], color)
    elif kind == "bow tie":
        sheet.polygon([(144, 206), (104, 184), (104, 228)], color)
        sheet.polygon([(144, 206), (184, 184), (184, 228)], color)
        sheet.disc((144, 206), 12, 12, shade(color, 0.75))
    else:
        for y in (176, 200, 222):
            sheet.disc((144, y), 8, 8, color)
    return [f"{name} {kind}" if kind == "buttons" else f"a {name} {kind}"]


def _draw_band(rng: random.Random, sheet: Sheet, kind: str, name: str, color: Color) -> str:
    """A scarf, belt or collar across the body, at times striped in a second colour."""
    top = {"scarf": 176.0, "belt": 196.0, "collar": 164.0}[kind]
    height, sag = (32.0 if kind == "scarf" else 20.0), 16.0
    xs = [62 + 164 * step / 12 for step in range(13)]
    drop = [sag * math.sin(math.pi * step / 12) for step in range(13)]
    band = [(x, top + d) for x, d in zip(xs, drop, strict=True)]
    band += [(x, top + height + d) for x, d in zip(reversed(xs), reversed(drop), strict=True)]
    sheet.polygon(band, color)
    plane = Image.new("L", sheet.image.size, 0)
    ImageDraw.Draw(plane).polygon(band, fill=255)
    if kind == "scarf" and rng.random() < 0.75:
        end = [(176.0, top + 24), (214.0, top + 18), (222.0, top + 74), (186.0, top + 80)]
        sheet.polygon(end, color)
        ImageDraw.Draw(plane).polygon(end, fill=255)
    if rng.random() < 0.5:
        other, stripe = pick_color(rng, color)
        sheet.within(plane, stripe, lambda pen: mark(pen, "stripes", rng.choice((14, 18, 24)), 6))
        return rng.choice((f"a striped {kind}", f"a {name} and {other} striped {kind}"))
    return f"a {name} {kind}"
