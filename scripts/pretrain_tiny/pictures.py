"""The third stage's data: latents of glyphs and drawings, each with the words for its captions."""

import random
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from scripts.colors import BACKGROUNDS, MORE_BACKGROUNDS, vary
from scripts.drawings import Drawing, draw_any
from scripts.glyphs import BASE, compose, draw_pose, list_pictographs, make_up_word, sprite
from scripts.pretrain_tiny.autoencoder import to_unit
from scripts.styles import LOOKS, restyle

SHARES = {"base": 0.45, "named": 0.13, "restyled": 0.13, "drawing": 0.29}
"""Of all images: the hundred glyphs, some hundred others, either in another look, and drawings."""

EMPTY, MADE_UP_NAMES, MADE_UP_STYLES = 0.10, 0.2, 0.12
_UNNAMED = ("symbol", "sign", "emoji", "modifier", "arrow", "clock", "with", "button", "type", "letter", "hand", "face")


def name_glyphs() -> dict[str, str]:
    """Glyphs beside the base's hundred with a Unicode name of one or two plain words: name -> character."""
    found = {}
    for char in list_pictographs():
        words = unicodedata.name(char, "?").lower().split()
        plain = len(words) <= 2 and all(word.isalpha() and word not in _UNNAMED for word in words)
        if plain and char not in BASE.values() and " ".join(words) not in BASE:
            found[" ".join(words)] = char
    return found


@dataclass(frozen=True)
class Item:
    """``look`` has ``{}`` in place of the subject's name. ``drawing`` is described again for each caption."""

    name: str
    size_word: str
    background: str
    look: str = "{}"
    parts: tuple[str, ...] = ()

    @classmethod
    def load(cls, row: dict[str, Any]) -> "Item":
        """From the output of ``dataclasses.asdict``, by way of JSON."""
        return cls(**{**row, "parts": tuple(row["parts"])})

    def write(self, rng: random.Random) -> str:
        """One of the item's captions; some are empty, some have an invented word."""
        if rng.random() < EMPTY:
            return ""
        subject = self.look.format(self._name(rng))
        if rng.random() < MADE_UP_STYLES:
            subject = f"{make_up_word(rng)} {subject}"
        draw, tail = rng.random(), ""
        if rng.random() < MADE_UP_STYLES:
            tail = f"{rng.choice((', in', ' in', ', drawn in'))} {make_up_word(rng)} style"
        size = f"{self.size_word} " if draw < 0.72 or 0.87 <= draw < 0.96 else ""
        ground = f" on a {self.background} background" if draw < 0.87 else ""
        return f"a {size}{subject}{ground}{tail}"

    def _name(self, rng: random.Random) -> str:
        if self.parts:
            return Drawing(Image.new("RGBA", (1, 1)), self.name, self.parts).describe(rng)
        return make_up_word(rng) if rng.random() < MADE_UP_NAMES else self.name


def draw_pictures(count: int, seed: str) -> Iterator[tuple[np.ndarray, Item]]:
    """(64, 64, 3) uint8, and its content."""
    rng, named = random.Random(seed), name_glyphs()
    drawers: dict[str, Callable[[], tuple[Image.Image, Item]]] = {
        "base": lambda: _draw_glyph(rng, BASE),
        "named": lambda: _draw_glyph(rng, named),
        "restyled": lambda: _draw_restyled(rng, BASE if rng.random() < 0.6 else named),
        "drawing": lambda: _draw_drawing(rng),
    }
    kinds = rng.choices(list(SHARES), weights=list(SHARES.values()), k=count)
    for kind in kinds:
        art, item = drawers[kind]()
        color = BACKGROUNDS.get(item.background) or vary(rng, MORE_BACKGROUNDS[item.background], 8)
        yield np.asarray(compose(art, color, draw_pose(rng, item.size_word))), item


def _setting(rng: random.Random) -> tuple[str, str]:
    """Size and background: mostly one of the measures' eight."""
    names = BACKGROUNDS if rng.random() < 0.7 else MORE_BACKGROUNDS
    return rng.choice(("large", "small")), rng.choice(list(names))


def _draw_glyph(rng: random.Random, table: dict[str, str]) -> tuple[Image.Image, Item]:
    name = rng.choice(list(table))
    return sprite(table[name]), Item(name, *_setting(rng))


def _draw_restyled(rng: random.Random, table: dict[str, str]) -> tuple[Image.Image, Item]:
    name = rng.choice(list(table))
    art, look = restyle(rng, sprite(table[name]), rng.choice(LOOKS))
    return art, Item(name, *_setting(rng), look)


def _draw_drawing(rng: random.Random) -> tuple[Image.Image, Item]:
    drawing, look = draw_any(rng), "{}"
    art = drawing.image
    if rng.random() < 0.12:
        art, look = restyle(rng, art, rng.choice(("line drawing", "sticker", "silhouette", "grayscale")))
    return art, Item(drawing.noun, *_setting(rng), look, drawing.parts or ("plain colors",))


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, count: int, seed: str) -> tuple[torch.Tensor, list[Item]]:
    """Latents (count, 4, 16, 16) in fp16, not yet scaled, and their items."""
    latents, items, batch = [], [], []
    for pixels, item in draw_pictures(count, seed):
        items.append(item)
        batch.append(pixels)
        if len(batch) == 64 or len(items) == count:
            whole = to_unit(torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2)).to(vae.device)
            with torch.autocast(vae.device.type, torch.bfloat16):
                latents.append(vae.encode(whole).latent_dist.mean.to("cpu", torch.float16))
            batch = []
    return torch.cat(latents).contiguous(), items
