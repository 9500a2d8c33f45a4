"""Prepares a base for training: examines a folder, converts a single file, or fetches from the Hub; writes its card.

    python -m worker.engine.bases.registration PARENT_PID < order.json > answer.json

It reads a RegistrationRequest, writes a RegistrationResult, and ends with its parent. It is a program because it needs
torch and, for a while, as much memory as the whole base, which its caller lacks.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.domain.model import ModelInfo
from core.domain.registration import ModelSource, RegistrationRequest, RegistrationResult
from core.model_folders import MADE_HERE, NOTE, is_made_here, is_where_workers_look, read_card
from worker.answers import answer_order
from worker.engine.bases.conversion import choose_prediction_type, convert
from worker.engine.bases.hub import fetch_base
from worker.engine.bases.inspection import inspect, write_card
from worker.engine.bases.single_file import CONFIGS, identify, read_header
from worker.engine.bases.vocabulary import PROBE, Probe, find_vocabulary
from worker.engine.errors import BadInput
from worker.engine.hashes import hash_file
from worker.engine.memory.tracing import add_memory

Complete = Callable[[ModelInfo, Path], ModelInfo]


def prepare(
    order: RegistrationRequest, *, configs: Path = CONFIGS, probe: Probe = PROBE, complete: Complete = add_memory
) -> RegistrationResult:
    """Refusals are answers. Unfinished files are removed. ``complete`` adds to the card of a base in its place."""
    try:
        folder = _make_folder(order, configs, probe)
        info = complete(read_card(folder), folder)
        write_card(folder, info)
        return RegistrationResult(info=info, folder=folder)
    except BadInput as error:
        return RegistrationResult(refusal=str(error))
    except PermissionError as error:
        return RegistrationResult(
            refusal=f"{error.filename} cannot be written: the worker that prepares bases needs a writable models "
            "directory. Mount it so, or prepare the base elsewhere and copy its folder here."
        )


def _make_folder(order: RegistrationRequest, configs: Path, probe: Probe) -> Path:
    source = order.source
    if source.hub_id is not None:
        return _fetch(order, source.hub_id)
    path = _resolve(order.models_path, source.path or "")
    return _take_folder(path, order) if path.is_dir() else _convert(path, order, configs, probe)


def _resolve(models_path: Path, name: str) -> Path:
    path = (models_path / name).resolve()
    if not path.is_relative_to(models_path.resolve()) or not path.exists():
        raise BadInput(f"There is no {name} in the models directory of the worker that searched for it, {models_path}.")
    return path


def _take_folder(folder: Path, order: RegistrationRequest) -> Path:
    """In place: only the card is written."""
    if not is_where_workers_look(order.models_path, order.source.path or ""):
        raise BadInput(
            f"{order.source.path} is not directly in the models directory, or begins with a dot: no worker would find "
            "it there. Move it, and register it again."
        )
    info = inspect(folder, model_id=order.model_id, description=order.source.description)
    write_card(folder, info)
    return folder


def _fetch(order: RegistrationRequest, hub_id: str) -> Path:
    with _new_folder(order) as folder:
        fetch_base(hub_id, folder)
        info = inspect(folder, model_id=order.model_id, description=order.source.description or f"{hub_id} of the Hub")
        write_card(folder, info)
    return order.models_path / order.model_id


def _convert(file: Path, order: RegistrationRequest, configs: Path, probe: Probe) -> Path:
    header = read_header(file)
    checkpoint = identify(header, configs)
    prediction_type = choose_prediction_type(header, checkpoint, order.source.prediction_type)
    vocabulary = find_vocabulary((order.models_path, *order.vocabulary_roots), probe)
    with _new_folder(order) as folder:
        convert(
            file,
            folder,
            header=header,
            checkpoint=checkpoint,
            prediction_type=prediction_type,
            resolution=order.source.resolution,
            vocabulary=vocabulary,
            configs=configs,
        )
        write_card(folder, _inspect_converted(folder, file, order))
    return order.models_path / order.model_id


def _inspect_converted(folder: Path, file: Path, order: RegistrationRequest) -> ModelInfo:
    source: ModelSource = order.source
    description = source.description or f"Converted from {file.name}"
    return inspect(folder, model_id=order.model_id, description=description, file_sha256=hash_file(file))


@contextmanager
def _new_folder(order: RegistrationRequest) -> Iterator[Path]:
    """A folder under another name, which is renamed to the model's when complete. Earlier remains are removed."""
    target = order.models_path / order.model_id
    partial = order.models_path / f".{order.model_id}.partial"
    _refuse_foreign(target, order.model_id)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        (partial / NOTE).write_text(f"{MADE_HERE}: it is replaced when {order.model_id} is registered again.\n")
        _replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _refuse_foreign(target: Path, model_id: str) -> None:
    """A folder that was made here may be replaced; an operator's own must not be lost."""
    if target.exists() and not is_made_here(target):
        raise BadInput(f"The models directory has a folder {model_id} already: choose another id, or move it away.")


def _replace(partial: Path, target: Path) -> None:
    """A folder cannot replace another in one step: the old one is renamed first."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    partial.replace(target)
    shutil.rmtree(old, ignore_errors=True)


def main() -> None:
    answer_order(RegistrationRequest.model_validate_json, prepare)


if __name__ == "__main__":
    main()
