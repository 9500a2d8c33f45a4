"""Warnings about a plan before it runs: what may be unintended, and what to change. Nothing here refuses."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from pydantic import Field

from core.domain.base import Frozen
from core.domain.captions import find_phrase
from core.domain.counts import counted
from core.domain.dataset import DatasetManifest
from core.domain.plan import TrainPlan
from core.domain.tokens import MAX_TOKEN_LENGTH, count_least_tokens

MUCH_CROPPED = 0.25
"""A share of an image's area: a 3:4 portrait loses as much in a square."""
MUCH_ENLARGED = 1.1
MAX_NAMED = 5
ALIKE = 0.7
"""difflib's ratio from which two words are spellings of one: `blob` and `blop` have 0.75."""

AdviceCode = Literal["cropped", "enlarged", "emulated", "time-limit", "cut-captions", "trigger-spelling"]


class Advice(Frozen):
    """A warning to read before the job is queued."""

    code: AdviceCode = Field(description="The subject of the warning, for programs.")
    field: str | None = Field(description="JSON pointer to the field of the spec that may fix it.")
    message: str = Field(description="What will happen, and what to change.")
    files: tuple[str, ...] = Field(description="The images concerned, worst first; at most five.")


@dataclass(frozen=True)
class Fit:
    """How an image fills its training size. ``cropped``: the share of its area that is lost; ``enlarged``: the
    factor by which its sides grow."""

    name: str
    cropped: float
    enlarged: float


def advise(
    plan: TrainPlan, manifest: DatasetManifest, *, seconds: float | None = None, devices: Set[str] = frozenset()
) -> tuple[Advice, ...]:
    """``plan`` was resolved from this manifest, and is estimated to take ``seconds``. ``devices``: the kinds of the
    workers' devices, such as `cpu`; empty if unknown."""
    fits = tuple(_fit_all(plan, manifest))
    square = all(image.bucket.width == image.bucket.height for image in plan.images)
    return (
        *_advise_on_crops(fits, square=square),
        *_advise_on_sizes(fits, plan.resolution),
        *_advise_on_captions(plan, manifest),
        *_advise_on_trigger(plan, manifest),
        *_advise_on_precision(plan, devices),
        *_advise_on_time(plan, seconds),
    )


def _advise_on_precision(plan: TrainPlan, devices: Set[str]) -> Iterator[Advice]:
    if plan.precision == "fp16" and devices == {"cpu"}:
        yield Advice(
            code="emulated",
            field="/precision",
            message="fp16 is emulated on CPUs, and there is no other device here: it is slower than fp32. Leave "
            "precision at auto.",
            files=(),
        )


def _advise_on_time(plan: TrainPlan, seconds: float | None) -> Iterator[Advice]:
    limit = plan.max_duration_seconds
    if limit is not None and seconds is not None and seconds > limit:
        yield Advice(
            code="time-limit",
            field="/max_duration_seconds",
            message=f"The job is estimated to take {seconds:,.0f} seconds, but would fail after {limit:,}: raise "
            "max_duration_seconds, or lower steps.",
            files=(),
        )


def _fit_all(plan: TrainPlan, manifest: DatasetManifest) -> Iterator[Fit]:
    """As the trainer does it: scaled to cover the bucket, and cropped at the centre. Regularisation images that the
    plan does not use are left out."""
    buckets = {planned.key: planned.bucket for planned in plan.images + plan.class_images}
    for image in (image for image in manifest.images if image.key in buckets):
        bucket = buckets[image.key]
        scale = max(bucket.width / image.width, bucket.height / image.height)
        shown = bucket.width * bucket.height / (image.width * image.height * scale**2)
        yield Fit(image.name, 1 - min(1.0, shown), scale)


def _advise_on_crops(fits: Sequence[Fit], *, square: bool) -> Iterator[Advice]:
    worst = _find_worst(fits, lambda fit: fit.cropped, MUCH_CROPPED)
    if worst:
        advice = "leave bucketing on, or crop them" if square else "crop them"
        yield Advice(
            code="cropped",
            field="/bucketing" if square else None,
            message=f"{_count(worst, fits)} lose{'s' if len(worst) == 1 else ''} more than {MUCH_CROPPED:.0%} of the "
            f"image when cropped to the training size, {worst[0].name} {worst[0].cropped:.0%}: {advice} yourself "
            "so that the subject is in the middle.",
            files=_name(worst),
        )


def _advise_on_sizes(fits: Sequence[Fit], resolution: int) -> Iterator[Advice]:
    worst = _find_worst(fits, lambda fit: fit.enlarged, MUCH_ENLARGED)
    if worst:
        yield Advice(
            code="enlarged",
            field="/resolution",
            message=f"{_count(worst, fits)} {'is' if len(worst) == 1 else 'are'} smaller than the training size at "
            f"resolution {resolution} and will be enlarged, {worst[0].name} {worst[0].enlarged:.1f} times: the "
            "adapter learns the blur. Use larger images, leave these out, or lower resolution.",
            files=_name(worst),
        )


def _advise_on_captions(plan: TrainPlan, manifest: DatasetManifest) -> Iterator[Advice]:
    """Those that are cut whatever the vocabulary is; the trainer reports the others."""
    names = {image.key: image.name for image in manifest.images}
    lengths = {planned.key: count_least_tokens(planned.caption) for planned in plan.images}
    cut = sorted((key for key in lengths if lengths[key] > plan.max_token_length), key=lambda key: -lengths[key])
    if cut:
        more = "" if plan.max_token_length == MAX_TOKEN_LENGTH else " or set captions.max_token_length to 225"
        yield Advice(
            code="cut-captions",
            field="/captions/max_token_length" if more else None,
            message=f"{len(cut)} of {counted(len(plan.images), 'caption')} {'is' if len(cut) == 1 else 'are'} longer "
            f"than {plan.max_token_length} tokens, "
            f"{names[cut[0]]} by {lengths[cut[0]] - plan.max_token_length} or more; the rest is not trained. "
            f"Shorten them{more}. The trigger is kept.",
            files=tuple(names[key] for key in cut[:MAX_NAMED]),
        )


def _advise_on_trigger(plan: TrainPlan, manifest: DatasetManifest) -> Iterator[Advice]:
    """If no caption contains the trigger, and half of them contain a word that is spelled almost as it is."""
    captions = [image.caption for image in manifest.subjects if image.caption]
    if not plan.trigger or not captions or any(find_phrase(caption, plan.trigger) for caption in captions):
        return
    words = Counter(word for caption in captions for word in set(re.findall(r"\w+", caption.lower())))
    common = [word for word, number in words.items() if 2 * number >= len(captions)]
    meant = get_close_matches(plan.trigger.lower(), common, n=1, cutoff=ALIKE)
    if meant:
        yield Advice(
            code="trigger-spelling",
            field="/trigger",
            message=f"No caption contains the trigger {plan.trigger!r}, but {words[meant[0]]} of "
            f"{counted(len(captions), 'caption')} contain {meant[0]!r}. If that is meant, correct the trigger.",
            files=(),
        )


def _find_worst(fits: Sequence[Fit], value_of: Callable[[Fit], float], limit: float) -> list[Fit]:
    return sorted((fit for fit in fits if value_of(fit) > limit), key=value_of, reverse=True)


def _count(found: Sequence[Fit], fits: Sequence[Fit]) -> str:
    return f"{len(found)} of {len(fits)} images" if len(fits) > 1 else "The image"


def _name(found: Sequence[Fit]) -> tuple[str, ...]:
    return tuple(fit.name for fit in found[:MAX_NAMED])
