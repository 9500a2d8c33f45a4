"""Makes an adapter from others: fetches their files, and has a program merge them."""

from collections.abc import Callable
from pathlib import Path

from core.db.adapter_claims import MergeClaim
from core.domain.adapter_import import BYTES_PER_FILE_BYTE, PROGRAM_BYTES
from core.domain.adapter_merge import ExtractionRequest, MergeInput, MergeRequest, MergeResult, describe_sources
from core.domain.errors import ModelRejected
from core.model_folders import BaseMissing, find_model_folder, find_planned_folder, read_card
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
    if claim.merge.method == "extract":
        try:
            return _extract(settings, claim, folder, check)
        except ModelRejected as error:
            return MergeResult(refusal=error.detail)
    model_folder = find_model_folder(settings, claim.model_id).resolve()
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


def _extract(settings: Settings, claim: MergeClaim, folder: Path, check: Callable[[], None]) -> MergeResult:
    """Raises BaseMissing, and ModelRejected for a base that was replaced or removed since it was requested."""
    [tuned] = claim.merge.sources
    model_folder = _find_base(settings, claim, claim.model_id, claim.model_sha256)
    tuned_sha256 = tuned.sha256 or read_card(find_model_folder(settings, tuned.id)).sha256
    tuned_folder = _find_base(settings, claim, tuned.id, tuned_sha256)
    mapped = sum(path.stat().st_size for base in (model_folder, tuned_folder) for path in base.glob("*/*.safetensors"))
    order = ExtractionRequest(
        family=claim.family,
        model_folder=model_folder,
        model_sha256=claim.model_sha256,
        tuned_folder=tuned_folder,
        tuned_sha256=tuned_sha256,
        rank=claim.merge.rank or 1,
        name=claim.name,
        trigger=claim.trigger,
        made_from=tuned.name,
        resolution=read_card(model_folder).resolution,
        folder=folder,
        memory_bytes=PROGRAM_BYTES + BYTES_PER_FILE_BYTE * claim.merge.expected_bytes + mapped,
    )
    return ask_program(EXTRACTION, order, MergeResult, check, task="extracts adapters")


def _find_base(settings: Settings, claim: MergeClaim, model_id: str, sha256: str) -> Path:
    if model_id not in claim.bases:
        raise ModelRejected(f"The base model {model_id} was removed.")
    if (registered := claim.bases[model_id]) is None:
        raise BaseMissing(f"The base model {model_id} is being registered again.")
    return find_planned_folder(settings, registered, sha256).resolve()


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
