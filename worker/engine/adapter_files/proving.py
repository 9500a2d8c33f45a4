"""Proves that an adapter's files, which this service wrote, load with their base.

    python -m worker.engine.adapter_files.proving PARENT_PID < request.json > result.json

The input is a ProofRequest, the output a ProofAnswer. As for imports, no weight of the base is read.
"""

from core.domain.promotion import ProofAnswer, ProofRequest
from worker.engine.adapter_files.answering import answer_or_refuse, answer_order
from worker.engine.adapter_files.proof.adapters import read_adapter
from worker.engine.adapter_files.proof.layers import list_layers
from worker.engine.adapter_files.proof.loaded_files import prove_files
from worker.engine.adapter_files.writing import check_same, name_module
from worker.engine.families.registry import build_networks


def prove_adapter(order: ProofRequest) -> ProofAnswer:
    return answer_or_refuse(_prove, order, lambda refusal: ProofAnswer(refusal=refusal))


def _prove(order: ProofRequest) -> ProofAnswer:
    """What the files must hold is read from kohya's, which has the trained numbers as they were."""
    networks = build_networks(order.family, order.model_folder)
    layers = list_layers(order.family, networks)
    modules = read_adapter(order.files["kohya"], layers)
    for module in modules:
        name_module(module, networks)  # refuses NaN
    check_same(order.files, layers)
    return ProofAnswer(proofs=prove_files(layers, networks, order.files, modules))


def main() -> None:
    answer_order(ProofRequest.model_validate_json, prove_adapter)


if __name__ == "__main__":
    main()
