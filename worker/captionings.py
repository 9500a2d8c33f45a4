"""Captions datasets on the slot's device, one at a time, when no job holds it: a program runs the captioner."""

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from core.db import captioning_claims
from core.db.captioning_claims import CaptioningClaim
from core.db.datasets import NewRevision
from core.db.leases import count_waiting
from core.db.steward import count_due_jobs
from core.db.tables import Captioning, Generation
from core.domain.artifacts import dataset_prefix
from core.domain.captioner import CaptionerInfo, CaptionerOrder
from core.domain.captioning import CaptioningPlan, caption_dataset, tidy
from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.states import TerminationReason
from core.model_folders import BaseMissing
from core.queue import progress_channel
from core.settings import Settings
from core.storage import ObjectNotFound, Storage, StorageError
from worker.captioner_program import CaptionerRefused, LoadedCaptioner
from worker.captioners import free_device
from worker.consumer import open_consumer
from worker.device.slot import open_slot
from worker.lease import Draining
from worker.program import has_torch
from worker.scratch import open_scratch

TURN_SECONDS = 60.0
"""After which a captioning makes room, if anything else waits for the device."""
SAVE_SECONDS = 1.0
"""Between two writes of what was captioned: the most that a killed worker does twice."""

log = logging.getLogger("atelier.captionings")


class TurnOver(Draining):
    """Others wait: the captioning is released, and continues later."""


class Lost(Exception):
    """What it needs is not there any more; the message says so to its owner."""


@dataclass(frozen=True)
class Outcome:
    """``new``: the revision; None if the captions are as they were, or for a failure, whose ``detail`` says why."""

    name: str | None = None
    new: NewRevision | None = None
    reason: TerminationReason | None = None
    detail: str = ""


@dataclass
class Written:
    """What the captioner wrote, by image and, as far as it is not saved yet, by key."""

    words: dict[str, str]
    unsaved: dict[str, str] = field(default_factory=dict)
    saved_at: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        return time.monotonic() - self.saved_at >= SAVE_SECONDS


def caption_next(settings: Settings) -> bool:
    """Captions the dataset that has waited longest; False if none waits, or this worker cannot or must not.

    Raises failures outside of the captioning: SQLAlchemyError, StorageError, OSError.
    """
    return has_torch() and open_consumer(Captions, settings).run_next()


class Captions:
    """A ``Check`` of captionings."""

    table = Captioning
    outages = (StorageError, OSError)
    obstacles = (BaseMissing,)  # later captionings may be for another captioner

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings, self._storage = settings, storage

    def claim(self, session: Session, *, lease_seconds: float) -> CaptioningClaim | None:
        return captioning_claims.claim_captioning(session, lease_seconds=lease_seconds)

    def run(self, claim: CaptioningClaim, check_lease: Callable[[], None]) -> Outcome:
        try:
            plan = CaptioningPlan.model_validate(claim.plan)
            manifest = DatasetManifest.model_validate(claim.manifest)
        except ValidationError:
            log.exception("%s cannot be read by this version of the worker", claim.id)
            return Outcome(reason=TerminationReason.INFRASTRUCTURE, detail="It is of another version of the service")
        try:
            words = self._write(claim, plan, plan.choose_images(manifest), check_lease)
        except (CaptionerRefused, Lost) as error:
            return Outcome(reason=TerminationReason.BAD_INPUT, detail=str(error))
        revision = caption_dataset(claim.dataset_id, manifest, plan, words)
        # Thousands of images take seconds: outside of the transaction.
        new = None if revision is None else NewRevision.of(revision)
        return Outcome(plan.name or claim.dataset_name, new)

    def commit(self, session: Session, claim: CaptioningClaim, result: Outcome) -> bool:
        if result.reason is not None:
            return captioning_claims.fail(session, claim, result.reason, result.detail)
        return captioning_claims.succeed(session, claim, result.name, result.new)

    def finish(self, claim: CaptioningClaim, result: Outcome) -> None:
        log.info("%s %s", claim.id, f"failed: {result.detail}" if result.reason else "succeeded")
        self._announce(claim)

    def prefix_of(self, claim: CaptioningClaim) -> str:
        """A captioning stores nothing of its own: the place of its revisions' own images, if they had any."""
        return dataset_prefix(claim.id)

    def list_references(self, session: Session, row_id: str) -> frozenset[str] | None:
        return frozenset()

    # --- the work --------------------------------------------------------------------------------------------

    def _write(
        self,
        claim: CaptioningClaim,
        plan: CaptioningPlan,
        images: tuple[ManifestImage, ...],
        check_lease: Callable[[], None],
    ) -> dict[str, str]:
        """The captioner's words, by each image's SHA-256. Raises CaptionerRefused, Lost."""
        written = self._find_written(claim, plan, images)
        missing = [image for image in images if image.sha256 not in written.words]
        if not missing:
            return written.words
        order = self._make_order(claim, plan)
        free_device(self._settings)
        with open_scratch() as scratch, LoadedCaptioner(order, check_lease) as captioner:
            turn_ends_at = time.monotonic() + TURN_SECONDS
            try:
                for image in missing:
                    check_lease()
                    path = self._fetch(image, scratch / "image.png")
                    # Whatever a model writes, PostgreSQL has to take it, and many of them have to fit.
                    words = tidy(captioner.caption(path, image.name)) or ""
                    written.words[image.sha256] = written.unsaved[plan.key_of(image.sha256)] = words
                    if written.is_due():
                        self._save(claim, written)
                    if time.monotonic() >= turn_ends_at and image is not missing[-1]:
                        self._make_room(claim, written)
                        turn_ends_at = time.monotonic() + TURN_SECONDS
            except (CaptionerRefused, Lost):
                self._save(claim, written)
                raise
        self._save(claim, written)
        return written.words

    def _find_written(self, claim: CaptioningClaim, plan: CaptioningPlan, images: tuple[ManifestImage, ...]) -> Written:
        """From earlier captionings, and from earlier attempts at this one."""
        keys = {plan.key_of(image.sha256): image.sha256 for image in images}
        with open_slot(self._settings).sessions.begin() as session:
            found = captioning_claims.find_words(session, claim.tenant_id, list(keys))
            # What an earlier attempt or turn of its own wrote is found too, and was not there before the first.
            reused = {"num_reused": len(found)} if claim.num_done == 0 else {}
            captioning_claims.report_progress(session, claim, num_done=len(found), **reused)
        self._announce(claim)
        return Written({keys[key]: words for key, words in found.items()})

    def _make_order(self, claim: CaptioningClaim, plan: CaptioningPlan) -> CaptionerOrder:
        """Raises Lost, and BaseMissing if only this worker lacks the captioner."""
        if claim.info is None or claim.location is None:
            raise Lost(f"The captioner {plan.captioner} was removed, or is being registered again.")
        if CaptionerInfo.model_validate(claim.info).sha256 != plan.info.sha256:
            raise Lost(f"The captioner {plan.captioner} was replaced after this was queued: request it again.")
        folder = (self._settings.models_path / claim.location).resolve()
        if not folder.is_dir():
            raise BaseMissing(f"This worker has no captioner {plan.captioner}.")
        return CaptionerOrder(
            folder=folder,
            device=self._settings.device,
            cpu_threads=self._settings.cpu_threads,
            sha256=plan.info.sha256,
            kind=plan.info.kind,
            prompt=plan.prompt,
            threshold=plan.threshold,
        )

    def _fetch(self, image: ManifestImage, path: Path) -> Path:
        try:
            stored = self._storage.fetch(image.key, path)
        except ObjectNotFound:
            raise Lost(f"{image.name} is no longer in storage. Upload the set again.") from None
        if stored.sha256 != image.sha256:
            raise Lost(f"{image.name} was damaged in storage. Upload the set again.")
        return path

    def _save(self, claim: CaptioningClaim, written: Written) -> None:
        """Raises LostLease."""
        if written.unsaved:
            with open_slot(self._settings).sessions.begin() as session:
                captioning_claims.keep_words(session, claim, written.unsaved, num_done=len(written.words))
            written.unsaved.clear()
            self._announce(claim)
        written.saved_at = time.monotonic()

    def _make_room(self, claim: CaptioningClaim, written: Written) -> None:
        """Raises TurnOver if anything else waits for the device."""
        self._save(claim, written)
        with open_slot(self._settings).sessions.begin() as session:
            others = (count_due_jobs(session), count_waiting(session, Generation), count_waiting(session, Captioning))
            if any(others):
                captioning_claims.end_turn(session, claim)
        if any(others):
            raise TurnOver(claim.id)

    def _announce(self, claim: CaptioningClaim) -> None:
        with contextlib.suppress(RedisError):
            open_slot(self._settings).bell.publish(progress_channel(claim.id), "")
