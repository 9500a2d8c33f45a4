"""Sheets of images with their settings in the margins."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from core.domain.grids import Grid

MARGIN, MIN_LABEL, MAX_LABEL = 8, 12, 24
MAX_SIDE = 4096
"""Pixels of all images together: larger ones are scaled down."""
PAPER, INK = "white", "black"


def draw_sheet(images: Sequence[Path], grid: Grid, target: Path) -> None:
    """``images``: row by row, all of one size. Labels that are too long for their column end in an ellipsis."""
    num_columns = len(grid.columns)
    num_rows = len(images) // num_columns
    with Image.open(images[0], formats=["PNG"]) as first:
        scale = min(1.0, MAX_SIDE / max(first.width * num_columns, first.height * num_rows))
        width, height = round(first.width * scale), round(first.height * scale)
    font = ImageFont.load_default(min(MAX_LABEL, max(MIN_LABEL, width // 12)))
    top = _line_height(font) + 2 * MARGIN
    left = max((_text_width(font, label) for label in grid.rows), default=-2 * MARGIN) + 2 * MARGIN
    left = min(left, max(width, 8 * MIN_LABEL))
    size = (left + num_columns * (width + MARGIN) + MARGIN, top + num_rows * (height + MARGIN))
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for column, label in enumerate(grid.columns):
        x = left + MARGIN + column * (width + MARGIN) + width // 2
        pen.text((x, top // 2), _shorten(font, label, width), INK, font, anchor="mm")
    for row, label in enumerate(grid.rows):
        y = top + row * (height + MARGIN) + height // 2
        pen.text((MARGIN, y), _shorten(font, label, left - MARGIN), INK, font, anchor="lm")
    for index, path in enumerate(images):
        row, column = divmod(index, num_columns)
        with Image.open(path, formats=["PNG"]) as image:
            tile = image if scale == 1 else image.resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(tile, (left + MARGIN + column * (width + MARGIN), top + row * (height + MARGIN)))
    sheet.save(target)


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _shorten(font: Font, label: str, width: int) -> str:
    if _text_width(font, label) <= width:
        return label
    while label and _text_width(font, f"{label}…") > width:
        label = label[:-1]
    return f"{label}…"


def _text_width(font: Font, text: str) -> int:
    return round(font.getlength(text))


def _line_height(font: Font) -> int:
    return round(font.getbbox("Ag")[3])
