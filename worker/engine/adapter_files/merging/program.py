"""Merges adapters into one, and writes it in both formats.

    python -m worker.engine.adapter_files.merging.program PARENT_PID < request.json > result.json

The input is a MergeRequest, the output a MergeResult. As for imports, no weight of the base is read.
"""

from core.domain.adapter_import import Findings
from core.domain.adapter_merge import MakingRequest, MergeRequest, MergeResult
from worker.engine.adapter_files.answering import answer_or_refuse, answer_order
from worker.engine.adapter_files.merging.merge import merge
from worker.engine.adapter_files.proof.adapters import read_adapter
from worker.engine.adapter_files.proof.layers import list_layers
from worker.engine.adapter_files.proof.loaded_files import prove_files
from worker.engine.adapter_files.writing import check_same, name_module, type_of, write_files
from worker.engine.families.registry import FAMILIES, build_networks


def merge_adapters(order: MergeRequest) -> MergeResult:
    return answer_or_refuse(_merge_adapters, order, lambda refusal: MergeResult(refusal=refusal))


def _merge_adapters(order: MergeRequest) -> MergeResult:
    networks = build_networks(order.family, order.model_folder)
    layers = list_layers(order.family, networks)
    merged = merge([(read_adapter(one.file, layers), one.weight) for one in order.inputs], order.rank)
    modules = [name_module(module, networks) for module in merged.modules]
    files = write_files(
        modules, describe_made(order, max(module.rank for module in modules)), order.family, order.folder
    )
    findings = Findings(
        type=type_of(modules),
        rank=max(module.rank for module in modules),
        trigger=order.trigger,
        proofs=prove_files(layers, networks, files, merged.modules),
    )
    check_same(files, layers)
    return MergeResult(findings=findings, files=files, error=merged.error)


def describe_made(order: MakingRequest, rank: int) -> dict[str, str]:
    """sd-scripts' keys, and those of modelspec 1.0.1, where ``merged_from`` lists the sources."""
    return {
        "ss_output_name": order.name,
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(float(rank)),
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": FAMILIES[order.family].metadata.architecture,
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": order.name,
        "modelspec.resolution": f"{order.resolution}x{order.resolution}",
        "modelspec.merged_from": order.made_from,
        **({"modelspec.trigger_phrase": order.trigger} if order.trigger else {}),
    }


def main() -> None:
    answer_order(MergeRequest.model_validate_json, merge_adapters)


if __name__ == "__main__":
    main()
