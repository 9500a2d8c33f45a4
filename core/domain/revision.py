"""A revision: the manifest of a ready dataset with edits. It shares the images in storage, by their keys."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import PurePosixPath

from core.domain.base import Frozen
from core.domain.caption_edits import CaptionEditor, CaptionTooLong
from core.domain.counts import counted
from core.domain.dataset import (
    MAX_CAPTION_CHARS,
    DatasetManifest,
    DatasetReport,
    LeftOut,
    ManifestImage,
    write_report,
)
from core.domain.edits import Box, Edits, Inclusion
from core.domain.errors import DatasetRejected, InvalidRequest
from core.domain.filenames import fold

MAX_NAMED = 5


class Crops(Frozen):
    """What is left for a worker to do: ``boxes`` by image. The rest is for the report."""

    boxes: dict[str, Box]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Revision:
    """``manifest`` is final unless there are ``boxes``: a worker then replaces these images by parts of them."""

    manifest: DatasetManifest
    boxes: Mapping[str, Box]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]

    def report(self) -> DatasetReport:
        return report_revision(self.manifest, self.left_out, self.notes)

    def crops(self) -> Crops | None:
        if not self.boxes:
            return None
        return Crops(boxes=dict(self.boxes), left_out=self.left_out, notes=self.notes)


def report_revision(manifest: DatasetManifest, left_out: Iterable[LeftOut], notes: Iterable[str]) -> DatasetReport:
    """No file was received for it: the number of its files is that of its images."""
    return write_report(len(manifest.images), manifest, left_out, [], notes=notes)


def revise(
    parent_id: str, parent: DatasetManifest, edits: Edits, sources: Mapping[str, DatasetManifest], *, max_images: int
) -> Revision:
    """``sources``: the manifests of the datasets that ``edits.include`` names.

    Raises InvalidRequest, and DatasetRejected for a set without a subject or with too many images.
    """
    draft = _Draft(list(parent.images))
    draft.exclude(edits.exclude)
    draft.set_captions(edits.captions)
    draft.edit_captions(edits)
    draft.crop(edits.crop)
    for number, inclusion in enumerate(edits.include):
        draft.include(inclusion, sources[inclusion.dataset], f"/include/{number}")
    _check_images(draft.images, max_images)
    if tuple(draft.images) == parent.images and not draft.boxes:
        raise InvalidRequest(f"These edits change nothing of {parent_id}. Use the dataset as it is.")
    notes = (f"Revision of {parent_id}: {', '.join(draft.describe(parent))}.",)
    return Revision(DatasetManifest(images=tuple(draft.images)), draft.boxes, tuple(draft.left_out), notes)


def _check_images(images: Sequence[ManifestImage], max_images: int) -> None:
    refuse_without_subject(images)
    if len(images) > max_images:
        raise DatasetRejected(f"The revision has {len(images):,} images; the limit is {max_images:,}. Include fewer.")


def refuse_without_subject(images: Iterable[ManifestImage]) -> None:
    """Raises DatasetRejected."""
    if not any(image.role == "subject" for image in images):
        raise DatasetRejected("No image is left to train on. Leave out fewer images, or include others.")


@dataclass
class _Draft:
    images: list[ManifestImage]
    boxes: dict[str, Box] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    included: set[str] = field(default_factory=set)

    def exclude(self, wanted: Sequence[str]) -> None:
        chosen = {image.name for image in _pick(self.images, wanted, "/exclude")}
        self.images = [image for image in self.images if image.name not in chosen]

    def set_captions(self, captions: Mapping[str, str | None]) -> None:
        self._check_names(captions, "/captions")
        self.images = [
            image.model_copy(update={"caption": captions[image.name]}) if image.name in captions else image
            for image in self.images
        ]

    def edit_captions(self, edits: Edits) -> None:
        editor, too_long = CaptionEditor(edits), []
        for index, image in enumerate(self.images):
            if image.role != "subject":
                continue
            try:
                self.images[index] = image.model_copy(update={"caption": editor.edit(image.caption)})
            except CaptionTooLong:
                too_long.append(image.name)
        if too_long:
            raise InvalidRequest(
                f"The captions of {_name(too_long)} would be longer than {MAX_CAPTION_CHARS:,} characters. "
                "Shorten them first, or add less.",
                {"": [f"makes the caption of {name} too long" for name in too_long]},
            )

    def crop(self, boxes: Mapping[str, Box]) -> None:
        self._check_names(boxes, "/crop")
        for image in self.images:
            if (box := boxes.get(image.name)) is not None:
                _check_box(image, box)
                if (box.width, box.height) != (image.width, image.height):
                    self.boxes[image.name] = box

    def include(self, inclusion: Inclusion, source: DatasetManifest, pointer: str) -> None:
        wanted = inclusion.images
        chosen = source.images if wanted is None else _pick(source.images, wanted, f"{pointer}/images")
        present = {image.sha256: image.name for image in self.images if image.name not in self.boxes}
        taken = {fold(image.name) for image in self.images}
        for image in chosen:
            if image.sha256 in present:
                reason = f"It has exactly the same pixels as {present[image.sha256]}."
                self.left_out.append(LeftOut(file=f"{inclusion.dataset}: {image.name}", reason=reason))
                continue
            name = find_free_name(image.name, taken)
            taken.add(fold(name))
            present[image.sha256] = name
            self.images.append(image.model_copy(update={"name": name}))
            self.included.add(name)
        self.images.sort(key=lambda image: image.name)  # as the worker lists them

    def describe(self, parent: DatasetManifest) -> Iterator[str]:
        own = [image for image in self.images if image.name not in self.included]
        before = {image.name: image.caption for image in parent.images}
        num_captions = sum(image.caption != before[image.name] for image in own)
        if num_out := len(parent.images) - len(own):
            yield f"{counted(num_out, 'image')} left out"
        if num_captions:
            yield f"{counted(num_captions, 'caption')} changed"
        if self.boxes:
            yield f"{counted(len(self.boxes), 'image')} cropped"
        if self.included:
            yield f"{counted(len(self.included), 'image')} included"

    def _check_names(self, names: Iterable[str], pointer: str) -> None:
        known = {image.name for image in self.images}
        _refuse_unknown([name for name in names if name not in known], pointer)


def _pick(images: Sequence[ManifestImage], wanted: Sequence[str], pointer: str) -> list[ManifestImage]:
    """By name or sha256, in the order of ``images``. Raises InvalidRequest for those that there are not."""
    names = set(wanted)
    _refuse_unknown(sorted(names - {image.name for image in images} - {image.sha256 for image in images}), pointer)
    return [image for image in images if image.name in names or image.sha256 in names]


def _refuse_unknown(names: Sequence[str], pointer: str) -> None:
    if names:
        raise InvalidRequest(
            f"{pointer}: the dataset has no image {_name(names)}. GET /datasets/{{id}}/images lists them.",
            {pointer: [f"there is no image {name}" for name in names]},
        )


def _name(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _check_box(image: ManifestImage, box: Box) -> None:
    if box.left + box.width > image.width or box.top + box.height > image.height:
        raise InvalidRequest(
            f"/crop: the box is not within {image.name}, which has {image.width} x {image.height} pixels.",
            {"/crop": [f"the box is not within {image.name}"]},
        )


def find_free_name(name: str, taken: set[str]) -> str:
    """``name``, or with a number behind its stem: ``a (2).png``. ``taken``: folded names."""
    path = PurePosixPath(name)
    others = (str(path.with_name(f"{path.stem} ({number}){path.suffix}")) for number in count(2))
    return name if fold(name) not in taken else next(other for other in others if fold(other) not in taken)
