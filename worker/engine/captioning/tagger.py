"""Taggers in ONNX with a list of tags, as SmilingWolf's WD taggers have them.

The folder has ``model.onnx`` (image -> a probability for each tag) and ``selected_tags.csv`` (name, category). The
preprocessing is that of the taggers' own demonstration: a white square around the image, bicubic, BGR from 0 to 255.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from core.domain.captioner import CHARACTER_THRESHOLD, CaptionerKind
from worker.engine.errors import BadInput

MODEL, TAGS = "model.onnx", "selected_tags.csv"
MAX_TAGS, MAX_SIDE = 100_000, 2048
GENERAL, CHARACTER = 0, 4
"""Danbooru's categories. The others rate an image or name its artist, and do not describe it."""
_KAOMOJI = frozenset(
    (
        *("0_0", "(o)_(o)", "+_+", "+_-", "._.", "<o>_<o>", "<|>_<|>", "=_=", ">_<", "3_3", "6_9", ">_o", "@_@", "^_^"),
        *("o_o", "u_u", "x_x", "|_|", "||_||"),
    )
)
"""Faces, whose underscore is not a space."""


@dataclass(frozen=True)
class Tag:
    name: str
    category: int


class Tagger:
    """``threshold``: the probability from which a tag counts."""

    kind: CaptionerKind = "tagger"
    architecture = "onnx"
    takes_prompt = False
    num_parameters = None

    def __init__(self, folder: Path, *, device: str, cpu_threads: int, threshold: float) -> None:
        """Raises BadInput for files that are not a tagger."""
        self._tags, self._threshold = read_tags(folder / TAGS), threshold
        self._session = _open(folder / MODEL, device, cpu_threads)
        self._input, self._side = _find_input(self._session)

    @property
    def num_tags(self) -> int:
        return len(self._tags)

    def caption(self, image: Image.Image) -> str:
        return ", ".join(tag.name for tag in self._choose(self._score(image)))

    def _score(self, image: Image.Image) -> NDArray[np.float32]:
        """A probability for each tag. Raises BadInput."""
        pixels = prepare(image, self._side)
        try:
            outputs = self._session.run(None, {self._input: pixels})
        except Exception as error:  # onnxruntime raises classes of its extension module for whatever fails inside
            raise BadInput(f"{MODEL} fails on an image of {self._side} x {self._side} pixels: {error}") from error
        scores = np.asarray(outputs[0], dtype=np.float32).reshape(-1) if outputs else np.empty(0, np.float32)
        if scores.size != len(self._tags):
            raise BadInput(
                f"{MODEL} scores {scores.size} tags, but {TAGS} lists {len(self._tags)}: they belong to "
                "different taggers."
            )
        if not np.all(np.isfinite(scores)) or scores.min() < 0 or scores.max() > 1:
            raise BadInput(f"{MODEL} does not give probabilities from 0 to 1, as taggers do.")
        return scores

    def _choose(self, scores: NDArray[np.float32]) -> Iterator[Tag]:
        """Characters first, then the rest, each the most probable first."""
        at_least = {GENERAL: self._threshold, CHARACTER: max(self._threshold, CHARACTER_THRESHOLD)}
        for category in (CHARACTER, GENERAL):
            found = [
                (score, tag)
                for score, tag in zip(scores, self._tags, strict=True)
                if tag.category == category and score >= at_least[category]
            ]
            yield from (tag for _, tag in sorted(found, key=lambda pair: -pair[0]))


def read_tags(path: Path) -> list[Tag]:
    """Raises BadInput."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [_read_tag(row) for row, _ in zip(csv.DictReader(file), range(MAX_TAGS + 1), strict=False)]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise BadInput(f"{TAGS} is not a list of tags with the columns name and category.") from error
    if not 0 < len(rows) <= MAX_TAGS:
        raise BadInput(f"{TAGS} lists {'no tags' if not rows else f'more than {MAX_TAGS:,} tags'}.")
    return rows


def _read_tag(row: dict[str, str | None]) -> Tag:
    name = (row["name"] or "").strip()
    if not name:
        raise ValueError("a tag without a name")
    return Tag(name if name in _KAOMOJI else name.replace("_", " "), int(row["category"] or ""))


def prepare(image: Image.Image, side: int) -> NDArray[np.float32]:
    """[1, side, side, 3], BGR from 0 to 255."""
    scale = side / max(image.size)  # before the padding: a square of a narrow image's length has no limit
    width, height = (max(1, round(length * scale)) for length in image.size)
    square = Image.new("RGB", (side, side), (255, 255, 255))
    scaled = image.resize((width, height), Image.Resampling.BICUBIC)
    square.paste(scaled, ((side - width) // 2, (side - height) // 2))
    pixels = np.asarray(square, dtype=np.float32)[None, :, :, ::-1]
    return np.ascontiguousarray(pixels)


def _open(path: Path, device: str, cpu_threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = cpu_threads
    options.log_severity_level = 4
    wanted = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
    there = set(ort.get_available_providers())
    providers = [name for name in (*wanted, "CPUExecutionProvider") if name in there]
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime raises classes of its extension module for whatever it cannot load
        raise BadInput(f"{MODEL} is not an ONNX model that can be loaded: {_shorten(error, path)}") from error


def _find_input(session: ort.InferenceSession) -> tuple[str, int]:
    """Its name, and its side in pixels. Raises BadInput."""
    inputs = session.get_inputs()
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    sides = shape[1:3]
    is_square = len(shape) == 4 and shape[3] == 3 and sides[0] == sides[1] and isinstance(sides[0], int)
    if not is_square or inputs[0].type != "tensor(float)" or not 0 < sides[0] <= MAX_SIDE:
        raise BadInput(
            f"{MODEL} takes {shape or 'several inputs'}; a tagger takes one image as [batch, side, side, 3] in float32."
        )
    return inputs[0].name, sides[0]


def _shorten(error: Exception, path: Path) -> str:
    """Without the folders of this machine."""
    return " ".join(str(error).replace(str(path.parent), "").split())[:200]
