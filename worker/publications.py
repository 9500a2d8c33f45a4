"""Publishes adapters on the Hugging Face Hub, one at a time: a program of its own talks to the Hub."""

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path

from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from core.db import publications
from core.db.publications import PublicationClaim
from core.db.tables import Publication
from core.domain.artifacts import ADAPTER_FORMATS, AdapterFormat, Artifact, adapter_prefix
from core.domain.publication import PublishAnswer, PublishOrder
from core.domain.secret_shares import join_secret
from core.secret_shares import get_share, remove_share
from core.settings import Settings
from core.storage import Storage, StorageError
from core.storage.disposition import make_filename, to_ascii
from worker.adapter_inputs import InputLost, fetch_input
from worker.consumer import open_consumer
from worker.model_card import describe_adapter
from worker.program import ask_program
from worker.scratch import open_scratch

PROGRAM = "worker.hub"
DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
"""What diffusers loads from a repository by default."""
ENVIRONMENT = {
    # Of the bases' downloads: whether something may be published is said by ATELIER_HUB_URL alone.
    "HF_HUB_OFFLINE": "0",
    "TRANSFORMERS_OFFLINE": None,
    "HF_ENDPOINT": None,
    # The token comes with the order, and no other may take its place.
    "HF_TOKEN": None,
    "HUGGING_FACE_HUB_TOKEN": None,
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # Xet sends to further hosts; an adapter is small, and LFS does it.
    "HF_HUB_DISABLE_XET": "1",
    "HF_DEBUG": None,
}

log = logging.getLogger("atelier.publications")


def publish_next(settings: Settings) -> bool:
    """Publishes the adapter that has waited longest; False if none waits, or this worker cannot or must not.

    Raises failures outside of the publication: SQLAlchemyError, StorageError, OSError, RedisError.
    """
    return _has_hub() and open_consumer(Publishing, settings).run_next()


def _has_hub() -> bool:
    return importlib.util.find_spec("huggingface_hub") is not None


class Publishing:
    """A ``Check`` of publications. It stores no files."""

    table = Publication
    outages = (StorageError, OSError, RedisError)
    obstacles = ()

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self._settings, self._storage = settings, storage

    def claim(self, session: Session, *, lease_seconds: float) -> PublicationClaim | None:
        return publications.claim_publication(session, lease_seconds=lease_seconds)

    def run(self, claim: PublicationClaim, check_lease: Callable[[], None]) -> PublishAnswer:
        if self._settings.hub_url is None:
            return PublishAnswer(refusal="Publishing is turned off on this service.")
        token = self._find_token(claim)
        if token is None:
            return PublishAnswer(refusal="The token was not kept any longer: it is for an hour. Publish again with it.")
        with open_scratch() as scratch:
            try:
                files = self._fetch(claim, scratch, check_lease)
            except InputLost as error:
                return PublishAnswer(refusal=str(error))
            order = PublishOrder(
                endpoint=self._settings.hub_url,
                token=token,
                repo_id=claim.spec.repo_id,
                private=claim.spec.private,
                overwrite=claim.spec.overwrite,
                files=files,
                weights=tuple(file["sha256"] for file in claim.adapter.files.values()),
                message=f"Publish {claim.adapter.name}",
            )
            task = "talks to the Hub"
            return ask_program(PROGRAM, order, PublishAnswer, check_lease, task=task, environment=ENVIRONMENT)

    def commit(self, session: Session, claim: PublicationClaim, result: PublishAnswer) -> bool:
        if result.url is None or result.commit is None:
            return publications.fail_publication(session, claim, result.refusal or "")
        return publications.commit_publication(session, claim, result.url, result.commit)

    def finish(self, claim: PublicationClaim, result: PublishAnswer) -> None:
        log.info("%s %s", claim.id, f"failed: {result.refusal}" if result.refusal else f"is at {result.url}")
        if claim.token_share is not None:
            remove_share(self._settings.redis_url, claim.id)

    def prefix_of(self, claim: PublicationClaim) -> str:
        return adapter_prefix(claim.id)

    def list_references(self, session: Session, row_id: str) -> frozenset[str] | None:
        """A publication stores nothing."""
        return frozenset()

    def _find_token(self, claim: PublicationClaim) -> str | None:
        if claim.token_share is None:
            own = self._settings.hub_token
            return own.get_secret_value() if own else None
        other = get_share(self._settings.redis_url, claim.id)
        return None if other is None else join_secret(other, claim.token_share)

    def _fetch(self, claim: PublicationClaim, scratch: Path, check_lease: Callable[[], None]) -> dict[str, Path]:
        """Path in the repository -> the file here."""
        names: dict[AdapterFormat, str] = {"kohya": _name_file(claim.adapter.name), "diffusers": DIFFUSERS_FILE}
        rows = claim.adapter.files
        files = {names[kind]: Artifact.model_validate(rows[kind]) for kind in ADAPTER_FORMATS if kind in rows}
        files |= {f"images/{number}.png": picture.file for number, picture in enumerate(claim.pictures)}
        found = {}
        for number, (name, file) in enumerate(files.items()):
            check_lease()
            try:
                found[name] = fetch_input(self._storage, file, scratch / f"{number}")
            except InputLost as error:
                raise InputLost(f"The file {name} of the adapter {error}: it cannot be published.") from None
        card = scratch / "README.md"
        card.write_text(describe_adapter(claim, [name for name in found if name.endswith(".safetensors")]))
        return {"README.md": card, **found}


def _name_file(name: str) -> str:
    """Of the file in kohya's format."""
    filename = to_ascii(make_filename(name, ".safetensors"))
    return f"kohya-{filename}" if filename == DIFFUSERS_FILE else filename
