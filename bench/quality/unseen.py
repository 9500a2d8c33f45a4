"""Six cases that no default was chosen by: they are run once, after everything else is settled.

Four subjects, flat and shaded, with outlines and without, and two styles, whose word is before the name and after it.
Their drawings share no code with those that the base was pretrained on.
"""

import math

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from bench.quality.cases import SHOWN, SIZES, Case, ask_subject, draw_fresh, style_case
from scripts.colors import Color
from scripts.retrieval import Sought

SIDE = 240


def list_unseen_cases() -> list[Case]:
    subjects = {
        "lantern jelly": draw_jelly(),
        "stone golem": draw_golem(),
        "paper crane": draw_crane(),
        "ray gun": draw_ray_gun(),
    }
    return [
        *(_subject_case(name, art) for name, art in subjects.items()),
        style_case("hatching", hatch, "before"),
        style_case("stained glass", stain, "behind"),
    ]


def _subject_case(name: str, art: Image.Image) -> Case:
    train = draw_fresh([art], f"train:{name}", 12)
    assert len(SHOWN) * len(SIZES) <= len(train)
    return Case(name, train, draw_fresh([art], name), ask_subject(name, [art], Sought(name, {name: [art]})))


def _sheet() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    return image, ImageDraw.Draw(image)


def _crop(image: Image.Image) -> Image.Image:
    return image.crop(image.getbbox())


def draw_jelly() -> Image.Image:
    """Flat, without outlines: a violet bell with a yellow light and wavy arms."""
    image, pen = _sheet()
    for index, x in enumerate((60, 92, 124, 156, 180)):
        wave = [(x + 9 * math.sin(y / 11 + index), y) for y in range(110, 226, 4)]
        pen.line(wave, fill=(188, 120, 236), width=11)
    pen.pieslice((36, 24, 204, 214), 180, 360, fill=(112, 52, 176))
    pen.rectangle((36, 112, 204, 126), fill=(112, 52, 176))
    pen.ellipse((92, 52, 148, 104), fill=(255, 224, 80))
    return _crop(image)


def draw_golem() -> Image.Image:
    """Shaded, without outlines: five grey boulders with moss and two glowing eyes."""
    image = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    for box in (
        (70, 20, 170, 104),
        (44, 88, 196, 196),
        (14, 108, 60, 196),
        (180, 108, 226, 196),
        (62, 186, 110, 232),
        (130, 186, 178, 232),
    ):
        image.alpha_composite(_boulder(box))
    pen = ImageDraw.Draw(image)
    pen.pieslice((70, 16, 170, 90), 190, 340, fill=(96, 150, 64))
    pen.ellipse((92, 58, 112, 76), fill=(90, 240, 250))
    pen.ellipse((128, 58, 148, 76), fill=(90, 240, 250))
    return _crop(image)


def _boulder(box: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", (SIDE, SIDE), 0)
    ImageDraw.Draw(mask).rounded_rectangle(box, 26, fill=255)
    ramp = Image.linear_gradient("L").resize((box[2] - box[0], box[3] - box[1]))
    light = Image.new("L", (SIDE, SIDE), 0)
    light.paste(ImageOps.invert(ramp), box[:2])
    stone = ImageOps.colorize(light, (62, 60, 66), (196, 192, 188)).convert("RGBA")
    stone.putalpha(mask)
    return stone


def draw_crane() -> Image.Image:
    """Flat facets with fine outlines: a folded bird of coral paper."""
    image, pen = _sheet()
    facets: list[tuple[list[tuple[int, int]], Color]] = [
        ([(120, 130), (20, 40), (96, 168)], (244, 132, 110)),
        ([(120, 130), (222, 30), (146, 168)], (214, 92, 84)),
        ([(96, 168), (120, 130), (146, 168), (120, 214)], (250, 176, 150)),
        ([(96, 168), (30, 196), (12, 160), (104, 184)], (226, 108, 96)),
        ([(146, 168), (228, 220), (136, 188)], (238, 148, 122)),
    ]
    for points, color in facets:
        pen.polygon(points, fill=color)
        pen.line([*points, points[0]], fill=(92, 36, 44), width=4, joint="curve")
    return _crop(image)


def draw_ray_gun() -> Image.Image:
    """Shaded, with heavy outlines: a green barrel with a red coil, a grip and a golden fin."""
    image, pen = _sheet()
    ink = (20, 24, 30)
    pen.polygon([(126, 120), (176, 120), (196, 214), (146, 220)], fill=(120, 76, 44), outline=ink, width=8)
    pen.polygon([(120, 70), (176, 18), (196, 74)], fill=(236, 188, 52), outline=ink, width=8)
    pen.rounded_rectangle((70, 62, 222, 136), 34, fill=(44, 140, 88), outline=ink, width=8)
    pen.rounded_rectangle((92, 72, 200, 92), 10, fill=(150, 222, 172))
    for x in (20, 42, 64):
        pen.ellipse((x, 70, x + 24, 128), fill=(216, 52, 48), outline=ink, width=6)
    return _crop(image)


def hatch(art: Image.Image) -> Image.Image:
    """Slanting brown strokes, wider where the drawing is darker, on the bare background."""
    grey = ImageOps.autocontrast(art.convert("L"), mask=art.getchannel("A"))
    strokes = Image.new("L", art.size, 0)
    pen = ImageDraw.Draw(strokes)
    for start in range(-art.height, art.width, 12):
        pen.line([(start, art.height), (start + art.height, 0)], fill=255, width=5)
    dark = grey.point(lambda value: 255 if value < 128 else 0)
    ink = ImageChops.lighter(strokes, dark)
    edge = ImageChops.difference(art.getchannel("A").filter(ImageFilter.MinFilter(5)), art.getchannel("A"))
    drawn = Image.new("RGB", art.size, (104, 58, 30))
    drawn.putalpha(ImageChops.darker(ImageChops.lighter(ink, edge), art.getchannel("A")))
    return drawn


def stain(art: Image.Image) -> Image.Image:
    """Three flat tones of teal, magenta and gold behind black lead."""
    alpha = art.getchannel("A").point(lambda value: 255 if value > 127 else 0)
    grey = ImageOps.autocontrast(art.convert("L"), mask=art.getchannel("A")).filter(ImageFilter.MedianFilter(7))
    tones = Image.new("RGB", art.size, (16, 120, 130))
    lead = ImageChops.difference(alpha.filter(ImageFilter.MinFilter(7)), alpha)
    for at, color in ((96, (196, 40, 120)), (176, (246, 196, 64))):
        plane = grey.point(lambda value, at=at: 255 if value > at else 0)
        tones.paste(color, mask=plane)
        edges = ImageChops.difference(plane.filter(ImageFilter.MaxFilter(5)), plane.filter(ImageFilter.MinFilter(5)))
        lead = ImageChops.lighter(lead, edges)
    tones.paste((12, 12, 16), mask=ImageChops.darker(lead, alpha))
    tones.putalpha(alpha)
    return tones
