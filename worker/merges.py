"""Makes an adapter from others: fetches their files, and has a program merge them."""

from collections.abc import Callable
from pathlib import Path

from core.db.adapter_claims import MergeClaim
from core.domain.adapter_import import BYTES_PER_FILE_BYTE, PROGRAM_BYTES
from core.domain.adapter_merge import ExtractionRequest, MergeInput, MergeRequest, MergeResult, describe_sources
from core.model_folders import find_model_folder, read_card
from core.settings import Settings
from core.storage import Storage
from worker.adapter_inputs import InputLost, fetch_input
from worker.program import ask_program

PROGRAM = "worker.engine.adapter_files.merging.program"
EXTRACTION = "worker.engine.adapter_files.merging.extraction"


def make_merge(
    settings: Settings, storage: Storage, claim: MergeClaim, scratch: Path, folder: Path, check: Callable[[], None]
) -> MergeResult:
    """Raises BaseMissing and StorageError; ``check`` may raise too."""
    model_folder = find_model_folder(settings, claim.model_id).resolve()
    if claim.merge.method == "extract":
        return _extract(settings, claim, model_folder, folder, check)
    try:
        inputs = _fetch_sources(storage, claim, scratch, check)
    except InputLost as error:
        return MergeResult(refusal=str(error))
    order = MergeRequest(
        family=claim.family,
        model_folder=model_folder,
        inputs=inputs,
        method="concat" if claim.merge.method == "concat" else "svd",
        rank=claim.merge.rank,
        name=claim.name,
        trigger=claim.trigger,
        made_from=describe_sources(claim.merge.sources),
        resolution=read_card(model_folder).resolution,
        folder=folder,
        memory_bytes=PROGRAM_BYTES + BYTES_PER_FILE_BYTE * sum(file.size for file in claim.files.values()),
    )
    return ask_program(PROGRAM, order, MergeResult, check, task="merges adapters")


def _extract(
    settings: Settings, claim: MergeClaim, model_folder: Path, folder: Path, check: Callable[[], None]
) -> MergeResult:
    [tuned] = claim.merge.sources
    card, tuned_folder = read_card(model_folder), find_model_folder(settings, tuned.id).resolve()
    mapped = sum(path.stat().st_size for base in (model_folder, tuned_folder) for path in base.glob("*/*.safetensors"))
    order = ExtractionRequest(
        family=claim.family,
        model_folder=model_folder,
        tuned_folder=tuned_folder,
        rank=claim.merge.rank or 1,
        name=claim.name,
        trigger=claim.trigger,
        made_from=tuned.name,
        resolution=card.resolution,
        folder=folder,
        memory_bytes=PROGRAM_BYTES + BYTES_PER_FILE_BYTE * claim.merge.expected_bytes + mapped,
    )
    return ask_program(EXTRACTION, order, MergeResult, check, task="extracts adapters")


def _fetch_sources(
    storage: Storage, claim: MergeClaim, scratch: Path, check: Callable[[], None]
) -> tuple[MergeInput, ...]:
    inputs = []
    for number, source in enumerate(claim.merge.sources):
        check()
        if (file := claim.files.get(source.id)) is None:
            raise InputLost(f"{source.id} was deleted: merge the others without it.")
        try:
            path = fetch_input(storage, file, scratch / f"{number}.safetensors")
        except InputLost as error:
            raise InputLost(f"The file of {source.id} {error}: merge the others without it.") from None
        inputs.append(MergeInput(file=path, weight=source.weight))
    return tuple(inputs)
