"""Bases from the Hugging Face Hub, on a machine that has a network. ``HF_HUB_OFFLINE`` is obeyed."""

import os
import shutil
from pathlib import Path

from diffusers import DiffusionPipeline
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of whichever HTTP library it has

from worker.training.errors import BadInput

REFUSALS = (OSError, ValueError, HTTPError)
"""What the Hub's client raises for a repository that is not there, is not ours to read, or is out of reach."""


def is_offline() -> bool:
    return bool(constants.HF_HUB_OFFLINE)


def fetch_base(hub_id: str, folder: Path) -> None:
    """The repository's pipeline as it stands there, safetensors only, as plain files. Raises BadInput."""
    if is_offline():
        raise BadInput(
            f"{hub_id} cannot be fetched: HF_HUB_OFFLINE is set. Put the base's folder or file into the models "
            "directory and register its path."
        )
    cache = folder.with_name(f"{folder.name}.cache")
    try:
        snapshot = DiffusionPipeline.download(hub_id, cache_dir=cache, use_safetensors=True, safety_checker=None)
        shutil.copytree(snapshot, folder, copy_function=_link, dirs_exist_ok=True)
    except REFUSALS as error:
        raise BadInput(
            f"{hub_id} could not be fetched from the Hub ({_first_line(error)}). It has to be a base in diffusers' "
            "layout with .safetensors weights; a single file can be downloaded by hand and registered by its path."
        ) from error
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _link(source: str, target: str) -> None:
    """The cache's files are links to blobs beside it: no byte is copied."""
    os.link(Path(source).resolve(), target)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
