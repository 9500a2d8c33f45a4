"""Checks an imported adapter against a base, and rewrites it in both formats.

    python -m worker.engine.adapter_files.importing PARENT_PID < request.json > result.json

The input is an ImportRequest, the output an ImportResult. It ends with its parent. The base's networks are built on the
meta device from their configs: no weight of the base is read.
"""

from collections.abc import Mapping, Sequence

from core.domain.adapter_import import Findings, IgnoredKey, ImportRequest, ImportResult
from worker.engine.adapter_files.answering import (
    MAX_REFUSAL_CHARS,
    answer_or_refuse,
    answer_order,
    limit_memory,
    printable,
)
from worker.engine.adapter_files.lycoris import convert
from worker.engine.adapter_files.proof.adapters import read_modules
from worker.engine.adapter_files.proof.files import AdapterFile, read_file
from worker.engine.adapter_files.proof.fitting import fit
from worker.engine.adapter_files.proof.layers import list_layers
from worker.engine.adapter_files.proof.loaded_files import prove_files
from worker.engine.adapter_files.writing import check_same, name_module, type_of, write_files
from worker.engine.families.registry import build_networks

__all__ = ["import_adapter", "limit_memory"]

TRIGGER = "modelspec.trigger_phrase"
MAX_TRIGGER_CHARS, MAX_KEY_CHARS = 100, 200


def import_adapter(order: ImportRequest) -> ImportResult:
    return answer_or_refuse(_import_adapter, order, lambda refusal: ImportResult(refusal=refusal))


def _printable_all(ignored: Sequence[IgnoredKey]) -> tuple[IgnoredKey, ...]:
    return tuple(
        IgnoredKey(key=printable(row.key, MAX_KEY_CHARS), reason=printable(row.reason, MAX_REFUSAL_CHARS))
        for row in ignored
    )


def _import_adapter(order: ImportRequest) -> ImportResult:
    read_file(order.file)  # refuses what is not a whole file
    path, conversion = convert(order.file, order.folder)
    file = read_file(path)
    networks = build_networks(order.family, order.model_folder)
    layers = list_layers(order.family, networks)
    found = fit(file, layers)
    read = read_modules(path, file, found, layers)
    modules = [name_module(module, networks) for module in read]
    files = write_files(modules, _keep_described(file.metadata), order.family, order.folder)
    findings = Findings(
        type=type_of(modules),
        rank=max(module.rank for module in modules),
        trigger=_trigger_of(file),
        proofs=prove_files(layers, networks, files, read),
        conversion=conversion,
        ignored=_printable_all(found.list_ignored()),
        num_ignored=len(found.ignored),
    )
    check_same(files, layers)
    return ImportResult(findings=findings, files=files)


def _trigger_of(file: AdapterFile) -> str:
    return printable(file.metadata.get(TRIGGER, "").strip(), MAX_TRIGGER_CHARS)


def _keep_described(metadata: Mapping[str, str]) -> dict[str, str]:
    """The author's metadata without the hashes: they are of bytes that are rewritten here."""
    kept = {key: value for key, value in metadata.items() if key.startswith(("ss_", "modelspec."))}
    kept.pop("modelspec.hash_sha256", None)
    return kept


def main() -> None:
    answer_order(ImportRequest.model_validate_json, import_adapter)


if __name__ == "__main__":
    main()
