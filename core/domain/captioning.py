"""A captioning: captions for a dataset's images by a captioner, which end in a revision of the dataset."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from core.domain.base import Frozen
from core.domain.captioner import DEFAULT_THRESHOLD, CaptionerInfo
from core.domain.counts import counted
from core.domain.dataset import DatasetManifest, ManifestImage, clean_caption
from core.domain.edits import Affix
from core.domain.errors import InvalidRequest
from core.domain.numbers import StrictBool, StrictFloat
from core.domain.phrases import Prompt, is_blank
from core.domain.revision import Revision
from core.domain.spec_part import SpecPart

CaptioningStatus = Literal["queued", "running", "succeeded", "failed", "canceled"]


class CaptioningSpec(SpecPart):
    """How to caption. ``{"captioner"}`` is enough."""

    captioner: str = Field(min_length=1, max_length=100, description="The captioner's id.")
    prompt: Prompt | None = Field(
        None,
        description="What to ask a captioner that takes prompts: a question or instruction for a chat model, a task "
        "for Florence-2 (`<DETAILED_CAPTION>`), the beginning of the caption for BLIP.",
    )
    prefix: Affix | None = Field(None, description="Put directly before each new caption, with its spaces.")
    suffix: Affix | None = Field(None, description="Put directly after each new caption, as `prefix`.")
    only_missing: StrictBool = Field(False, description="Leave images that have a caption as they are.")
    threshold: Annotated[StrictFloat, Field(gt=0, lt=1, allow_inf_nan=False)] | None = Field(
        None, description=f"For a tagger: the score from which a tag counts; by default {DEFAULT_THRESHOLD}."
    )


class CaptioningPlan(Frozen):
    """Every default turned into a value. ``name``: the revision's."""

    captioner: str
    info: CaptionerInfo
    prompt: str | None
    threshold: float
    prefix: str
    suffix: str
    only_missing: bool
    name: str | None

    def key_of(self, image_sha256: str) -> str:
        """Equal for all that decides the captioner's own words: the image, the captioner's files, and its settings."""
        settings = self.threshold if self.info.kind == "tagger" else self.prompt
        words = json.dumps([image_sha256, self.info.sha256, settings], ensure_ascii=False)
        return hashlib.sha256(words.encode()).hexdigest()

    def choose_images(self, manifest: DatasetManifest) -> tuple[ManifestImage, ...]:
        """Those that get a caption: of the subject alone, since regularisation images keep theirs."""
        return tuple(image for image in manifest.subjects if not (self.only_missing and image.caption))

    def finish_caption(self, words: str) -> str | None:
        """The caption of the captioner's words; None for words without content, which change nothing."""
        caption = tidy(words)
        return caption and clean_caption(f"{self.prefix}{caption}{self.suffix}")


def plan_captioning(
    spec: CaptioningSpec, info: CaptionerInfo, manifest: DatasetManifest, name: str | None
) -> CaptioningPlan:
    """Raises InvalidRequest for an option without effect, and if no image needs a caption."""
    if spec.prompt is not None and not info.takes_prompt:
        raise _refuse("/prompt", f"{spec.captioner} does not take a prompt: leave it out.")
    if spec.threshold is not None and info.kind != "tagger":
        raise _refuse("/threshold", f"{spec.captioner} writes sentences: only a tagger has a threshold.")
    plan = CaptioningPlan(
        captioner=spec.captioner,
        info=info,
        prompt=spec.prompt,
        threshold=DEFAULT_THRESHOLD if spec.threshold is None else spec.threshold,
        prefix=spec.prefix or "",
        suffix=spec.suffix or "",
        only_missing=spec.only_missing,
        name=name,
    )
    if not plan.choose_images(manifest):
        raise _refuse("/only_missing", "Every image has a caption already. Without only_missing they are replaced.")
    return plan


def _refuse(pointer: str, detail: str) -> InvalidRequest:
    return InvalidRequest(detail, {pointer: [detail]})


def tidy(words: str) -> str | None:
    """One line without control characters and halves of surrogate pairs, whatever a model wrote; None if nothing
    visible is left."""
    kept = "".join(" " if unicodedata.category(char) in {"Cc", "Cs"} else char for char in words)
    return None if is_blank(kept) else clean_caption(kept)


def caption_dataset(
    parent_id: str, parent: DatasetManifest, plan: CaptioningPlan, words: Mapping[str, str]
) -> Revision | None:
    """The dataset with the new captions. ``words``: the captioner's, by the SHA-256 of each image. None if they change
    nothing."""
    new = {image.name: plan.finish_caption(words[image.sha256]) for image in plan.choose_images(parent)}
    images = tuple(
        image.model_copy(update={"caption": new[image.name]}) if new.get(image.name) else image
        for image in parent.images
    )
    if images == parent.images:
        return None
    num_written = sum(caption is not None for caption in new.values())
    note = f"Revision of {parent_id}: {counted(num_written, 'caption')} by {plan.captioner}"
    if num_without := len(new) - num_written:
        note += f"; it wrote nothing for {counted(num_without, 'image')}"
    return Revision(DatasetManifest(images=images), {}, (), (f"{note}.",))
