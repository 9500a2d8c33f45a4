"""Finishes a revision: cuts parts out of stored images, in the decoder's process, and stores them as its own."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from core.db.dataset_claims import Draft
from core.domain.artifacts import image_key
from core.domain.dataset import DatasetManifest, DatasetReport, LeftOut, ManifestImage
from core.domain.edits import Box
from core.domain.errors import DatasetRejected
from core.domain.revision import refuse_without_subject, report_revision
from core.storage import ObjectNotFound, Storage
from worker.datasets.images import Unusable
from worker.datasets.sandbox import DecoderDied, Sandbox
from worker.datasets.thumbnails import store_thumbnail

log = logging.getLogger(__name__)


@dataclass
class Cropped:
    """``images`` has those of the draft and, in place of the ones to crop, their parts."""

    notes: tuple[str, ...]
    left_out: list[LeftOut]
    images: list[ManifestImage] = field(default_factory=list)

    def manifest(self) -> DatasetManifest:
        return DatasetManifest(images=tuple(sorted(self.images, key=lambda image: image.name)))

    def report(self) -> DatasetReport:
        return report_revision(self.manifest(), self.left_out, self.notes)


class Cropping:
    """``check`` is called between images, and may raise."""

    def __init__(
        self,
        dataset_id: str,
        draft: Draft,
        storage: Storage,
        sandbox: Sandbox,
        scratch: Path,
        check: Callable[[], None],
    ) -> None:
        self._dataset_id, self._storage, self._sandbox, self._check = dataset_id, storage, sandbox, check
        self._draft, self._source, self._target = draft, scratch / "source", scratch / "target"
        self._thumbnail = scratch / "thumbnail"
        self.findings = Cropped(draft.crops.notes, list(draft.crops.left_out))

    def run(self) -> None:
        """Raises DatasetRejected; ScratchFailed and StorageError for failures outside of the set."""
        boxes = self._draft.crops.boxes
        self.findings.images = [image for image in self._draft.manifest.images if image.name not in boxes]
        for image in self._draft.manifest.images:
            if image.name in boxes:
                self._check()
                self._take(image, boxes[image.name])
        refuse_without_subject(self.findings.images)

    def _take(self, image: ManifestImage, box: Box) -> None:
        try:
            self.findings.images.append(self._crop(image, box))
        except Unusable as error:
            self.findings.left_out.append(LeftOut(file=image.name, reason=str(error)))
        finally:
            self._source.unlink(missing_ok=True)
            self._target.unlink(missing_ok=True)
            self._thumbnail.unlink(missing_ok=True)

    def _crop(self, image: ManifestImage, box: Box) -> ManifestImage:
        """Raises Unusable."""
        self._fetch(image)
        try:
            region = (box.left, box.top, box.width, box.height)
            part = self._sandbox.crop(self._source, self._target, region, self._thumbnail)
        except DecoderDied as error:
            log.warning("%s: cropping %s killed the decoder: %s", self._dataset_id, image.key, error)
            raise Unusable("Opening it takes too long or too much memory.") from error
        self._refuse_duplicate(part.sha256)
        key = image_key(self._dataset_id, part.sha256)
        stored = self._storage.put_file(key, self._target, content_type="image/png")
        described = {name: getattr(part, name) for name in ("width", "height", "dhash", "sharpness", "masked")}
        described["thumbnail"] = store_thumbnail(self._storage, self._dataset_id, part.sha256, self._thumbnail)
        return image.model_copy(update={"key": key, "sha256": stored.sha256, "size": stored.size, **described})

    def _fetch(self, image: ManifestImage) -> None:
        try:
            fetched = self._storage.fetch(image.key, self._source)
        except ObjectNotFound as error:
            raise DatasetRejected(f"{image.name} is no longer in storage. Upload the set again.") from error
        if fetched.sha256 != image.sha256:
            raise DatasetRejected(f"{image.name} was damaged in storage. Upload the set again.")

    def _refuse_duplicate(self, sha256: str) -> None:
        for other in self.findings.images:
            if other.sha256 == sha256:
                raise Unusable(f"Its part has exactly the same pixels as {other.name}.")
