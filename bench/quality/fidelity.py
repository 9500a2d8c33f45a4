"""How closely an image matches its prompt: hits, which only ask for the nearest drawing, do not measure this.

If a prompt's background and size are known, an image is compared with renders of its subject over poses:

- **PSNR** of the best of them, in dB;
- **color error**: the mean CIE 1976 color difference (Delta E*ab) to that render, over the pixels of the subject;
- **border**: the deviation of the colour within four pixels of the edge, outside of the subject: the root mean square
  distance from the median colour, in levels of 255, each channel apart.

The autoencoder's own bound on each is the value for true renders after encoding and decoding.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from statistics import fmean

import numpy as np
from PIL import Image, ImageFilter

from scripts.glyphs import SCALES, SIZE, Pose, compose

ANGLES = (-10.0, -5.0, 0.0, 5.0, 10.0)
SHIFTS = 9
STEPS = {"scale": 0.02, "angle": 2.0, "shift_x": 1.0, "shift_y": 1.0}
BORDER, STARTS = 4, 5
SIZES = (0.85, 1.15)

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Subject:
    """The content of a prompt: RGBA drawings, any of which may match, at a size on a colour."""

    drawings: tuple[Image.Image, ...]
    size_word: str
    color: Color

    @cached_property
    def _coarse(self) -> tuple[list[tuple[Image.Image, Pose]], np.ndarray]:
        """Poses in the middle, and their renders' differences from the background in levels, (N, 64, 64, 3)."""
        scale = SCALES[self.size_word]
        poses = [Pose(scale, angle, flip=flip) for angle in ANGLES for flip in (False, True)]
        pairs = [(_shrink(drawing), pose) for drawing in self.drawings for pose in poses]
        seen = np.stack([np.asarray(compose(art, self.color, pose), np.float32) for art, pose in pairs])
        return pairs, seen - np.asarray(self.color, np.float32)

    def compare(self, picture: Image.Image) -> "Fidelity":
        pixels = np.asarray(picture.convert("RGB").resize((SIZE, SIZE)), np.float32)
        art, pose, error = min((self._refine(pixels, *start) for start in self._nearest(pixels)), key=itemgetter(2))
        best = np.asarray(compose(art, self.color, pose), np.float32)
        cover = np.asarray(compose(_silhouette(art), (0, 0, 0), pose))[:, :, 0]
        apart = np.linalg.norm(_to_lab(pixels) - _to_lab(best), axis=-1)
        psnr = 10 * np.log10(255**2 / max(error, 1e-3))
        return Fidelity(float(psnr), float(apart[cover > 140].mean()), _measure_border(pixels, cover))

    def _nearest(self, pixels: np.ndarray) -> Iterator[tuple[Image.Image, Pose]]:
        """The best of the coarse poses, each where it fits best."""
        pairs, differences = self._coarse
        errors = _shifted_errors(pixels - np.asarray(self.color, np.float32), differences)
        for index in errors.min((1, 2)).argsort()[:STARTS]:
            y, x = np.unravel_index(int(errors[index].argmin()), errors[index].shape)
            art, pose = pairs[index]
            yield art, replace(pose, shift_x=float(x) - SHIFTS, shift_y=float(y) - SHIFTS)

    def _refine(self, pixels: np.ndarray, art: Image.Image, pose: Pose) -> tuple[Image.Image, Pose, float]:
        """One parameter of the pose after the other, by ever smaller steps, while the error falls. Never to another
        size or out of sight: for an image without the subject, the nearest render would be an empty one."""
        smallest, largest = (part * SCALES[self.size_word] for part in SIZES)
        error = _error(pixels, np.asarray(compose(art, self.color, pose), np.float32))
        for part in (1.0, 0.5, 0.25):
            for name, step in STEPS.items():
                for sign in (-part, part):
                    while True:
                        tried = replace(pose, **{name: getattr(pose, name) + sign * step})
                        if (
                            not smallest <= tried.scale <= largest
                            or max(abs(tried.shift_x), abs(tried.shift_y)) > SHIFTS
                        ):
                            break
                        found = _error(pixels, np.asarray(compose(art, self.color, tried), np.float32))
                        if found >= error:
                            break
                        pose, error = tried, found
        return art, pose, error


@dataclass(frozen=True)
class Fidelity:
    psnr: float
    color_error: float
    border: float

    @classmethod
    def mean(cls, rows: Iterable["Fidelity"]) -> "Fidelity":
        listed = list(rows)
        return cls(*(fmean(getattr(row, name) for row in listed) for name in ("psnr", "color_error", "border")))


def compare_all(pictures: Sequence[Image.Image], subjects: Sequence[Subject]) -> Fidelity:
    return Fidelity.mean(subject.compare(picture) for picture, subject in zip(pictures, subjects, strict=True))


def _shrink(art: Image.Image) -> Image.Image:
    small = art.copy()
    small.thumbnail((192, 192), Image.Resampling.LANCZOS)
    return small


def _silhouette(art: Image.Image) -> Image.Image:
    white = Image.new("L", art.size, 255)
    return Image.merge("RGBA", (white, white, white, art.getchannel("A")))


def _error(pixels: np.ndarray, other: np.ndarray) -> float:
    return float(((pixels - other) ** 2).mean())


def _measure_border(pixels: np.ndarray, cover: np.ndarray) -> float:
    """``cover``: 0 to 255, how far the subject covers each pixel; pixels near it do not count either."""
    free = np.asarray(Image.fromarray(cover).filter(ImageFilter.MaxFilter(5))) < 8
    free[BORDER:-BORDER, BORDER:-BORDER] = False
    border = pixels[free]
    return float(np.sqrt(((border - np.median(border, axis=0)) ** 2).mean())) if len(border) else 0.0


def _shifted_errors(query: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """Mean squared errors (N, 2 SHIFTS + 1, 2 SHIFTS + 1) of each render, moved by each number of pixels: by
    ``|q - d|^2 = |q|^2 + |d|^2 - 2 q d``, the last by Fourier transforms."""
    spectrum = np.conj(np.fft.rfft2(differences, axes=(1, 2))) * np.fft.rfft2(query, axes=(0, 1))
    products = np.fft.irfft2(spectrum, s=query.shape[:2], axes=(1, 2)).sum(-1)
    near = np.roll(products, (SHIFTS, SHIFTS), (1, 2))[:, : 2 * SHIFTS + 1, : 2 * SHIFTS + 1]
    lengths = (differences**2).sum((1, 2, 3))[:, None, None]
    return ((query**2).sum() + lengths - 2 * near) / query.size


def _to_lab(pixels: np.ndarray) -> np.ndarray:
    """CIE 1976 L*a*b* under D65 of sRGB in levels (IEC 61966-2-1)."""
    unit = pixels / 255.0
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    ratio = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)
