"""Reads pictures that were sent as covers, one at a time, in the decoder's process, and writes them anew."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from core.db import covers
from core.db.covers import CoverClaim
from core.db.tables import SentCover
from core.domain.artifacts import Artifact, sent_cover_prefix
from core.settings import Settings
from core.storage import Storage, StorageError
from worker.adapter_inputs import InputLost, fetch_input
from worker.consumer import open_consumer
from worker.datasets.images import Unusable
from worker.datasets.sandbox import DecoderDied, Sandbox, ScratchFailed, limits_from
from worker.scratch import open_scratch

MAX_PIXELS = 16 * 1024**2
"""Of a cover: pages show it to whoever has a link."""

log = logging.getLogger("atelier.adapters")


@dataclass
class ReadCover:
    """Either the ``cover``, or the ``refusal``; ``replaced``: the key of the cover before it."""

    cover: Artifact | None = None
    refusal: str = ""
    replaced: str | None = None


def read_next_cover(settings: Settings) -> bool:
    """Reads the picture that has waited longest; False if none waits, or this worker is shutting down.

    Raises failures outside of the picture: SQLAlchemyError, StorageError, ScratchFailed.
    """
    return open_consumer(CoverReading, settings).run_next()


class CoverReading:
    """A ``Check`` of covers."""

    table = SentCover
    outages = (StorageError, ScratchFailed)
    obstacles = ()

    def __init__(self, settings: Settings, storage: Storage) -> None:
        pixels = min(settings.max_pixels, MAX_PIXELS)
        self._limits, self._storage = limits_from(settings.model_copy(update={"max_pixels": pixels})), storage

    def claim(self, session: Session, *, lease_seconds: float) -> CoverClaim | None:
        return covers.claim_cover(session, lease_seconds=lease_seconds)

    def run(self, claim: CoverClaim, check_lease: Callable[[], None]) -> ReadCover:
        with open_scratch() as scratch, Sandbox(self._limits, check_lease) as sandbox:
            try:
                source = fetch_input(self._storage, claim.upload, scratch / "source")
                image = sandbox.convert(source, scratch / "cover.png")
            except InputLost as error:
                return ReadCover(refusal=f"The picture {error}: send it again.")
            except Unusable as error:
                return ReadCover(refusal=str(error))
            except DecoderDied:
                return ReadCover(refusal="Reading it takes too much time or memory: send a smaller picture.")
            key = f"{self.prefix_of(claim)}{image.sha256}.png"
            stored = self._storage.put_file(key, scratch / "cover.png", content_type="image/png")
            return ReadCover(Artifact(key=stored.key, sha256=stored.sha256, size=stored.size))

    def commit(self, session: Session, claim: CoverClaim, result: ReadCover) -> bool:
        if result.cover is None:
            return covers.reject_cover(session, claim, result.refusal)
        held, result.replaced = covers.commit_cover(session, claim, result.cover)
        return held

    def finish(self, claim: CoverClaim, result: ReadCover) -> None:
        log.info("%s is %s", claim.id, f"rejected: {result.refusal}" if result.refusal else "ready")
        self._storage.delete(claim.upload.key)
        if result.replaced is not None:
            self._storage.delete(result.replaced)

    def prefix_of(self, claim: CoverClaim) -> str:
        return sent_cover_prefix(claim.adapter_id, claim.id)

    def list_references(self, session: Session, row_id: str) -> frozenset[str] | None:
        return covers.list_cover_references(session, row_id)
