"""Registers captioners, one at a time: fetches those of the Hub, loads each, tries it out, and commits the result."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from core.db import captioners
from core.db.captioners import CaptionerClaim
from core.db.tables import Captioner
from core.domain.captioner import CaptionerInfo, CaptionerOrder, FetchOrder, FetchResult
from core.model_folders import MADE_HERE, NOTE, is_made_here
from core.settings import Settings
from core.storage import Storage
from worker.captioner_program import CaptionerRefused, LoadedCaptioner
from worker.consumer import open_consumer
from worker.device.slot import open_slot
from worker.program import ask_program, has_torch

FETCHING = "worker.engine.captioning.fetching"

log = logging.getLogger("atelier.captioners")


@dataclass(frozen=True)
class Loaded:
    """What is known of the captioner, or why it was refused."""

    info: CaptionerInfo | None = None
    refusal: str = ""


def register_next_captioner(settings: Settings) -> bool:
    """Registers the captioner that has waited longest; False if none waits, or this worker cannot or must not.

    Raises failures outside of the captioner: SQLAlchemyError, OSError.
    """
    return has_torch() and open_consumer(Registration, settings).run_next()


def free_device(settings: Settings) -> None:
    """A GPU's memory is the warm trainer's otherwise."""
    if settings.device != "cpu":
        open_slot(settings).drop_trainer()


class Registration:
    """A ``Check`` of captioners. It writes nothing into storage."""

    table = Captioner
    outages = (OSError,)
    obstacles = ()

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings = settings

    def claim(self, session: Session, *, lease_seconds: float) -> CaptionerClaim | None:
        return captioners.claim_registration(session, lease_seconds=lease_seconds)

    def run(self, claim: CaptionerClaim, check_lease: Callable[[], None]) -> Loaded:
        free_device(self._settings)
        try:
            with self._find_folder(claim, check_lease) as folder:
                order = CaptionerOrder(
                    folder=folder, device=self._settings.device, cpu_threads=self._settings.cpu_threads
                )
                with LoadedCaptioner(order, check_lease) as captioner:
                    return Loaded(info=captioner.info)
        except CaptionerRefused as error:
            return Loaded(refusal=str(error))
        except PermissionError as error:
            return Loaded(
                refusal=f"{error.filename} cannot be written: the worker needs a writable models directory to fetch a "
                "captioner. Mount it so, or fetch the captioner elsewhere and copy its folder here."
            )

    def commit(self, session: Session, claim: CaptionerClaim, result: Loaded) -> bool:
        if result.info is None:
            return captioners.reject_registration(session, claim, result.refusal)
        return captioners.commit_registration(session, claim, result.info)

    def finish(self, claim: CaptionerClaim, result: Loaded) -> None:
        log.info("the captioner %s is %s", claim.id, "ready" if result.info else f"rejected: {result.refusal}")

    def prefix_of(self, claim: CaptionerClaim) -> str:
        return f"captioners/{claim.id}/"

    def list_references(self, session: Session, row_id: str) -> frozenset[str] | None:
        """A registration stores nothing."""
        return frozenset()

    @contextmanager
    def _find_folder(self, claim: CaptionerClaim, check_lease: Callable[[], None]) -> Iterator[Path]:
        """The operator's own; or one that is fetched, and moved into its place once it was loaded."""
        root = self._settings.models_path.resolve()
        folder = (root / claim.location).resolve()
        if claim.source.hub_id is None:
            if not folder.is_relative_to(root) or not folder.is_dir():
                raise CaptionerRefused(
                    f"There is no folder {claim.location} in the models directory of the worker that searched for it."
                )
            yield folder
            return
        if folder.exists() and not is_made_here(folder):
            raise CaptionerRefused(
                f"The models directory has a folder {claim.location} already: choose another id, or move it away."
            )
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            order = FetchOrder(hub_id=claim.source.hub_id, folder=partial)
            fetched = ask_program(FETCHING, order, FetchResult, check_lease, task="fetches captioners")
            if fetched.refusal is not None:
                raise CaptionerRefused(fetched.refusal)
            yield partial
            (partial / NOTE).write_text(f"{MADE_HERE}: it is replaced when {claim.id} is registered again.\n")
            shutil.rmtree(folder, ignore_errors=True)
            partial.replace(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
