"""Checks whether adapters fit a base, and how far they overlap.

    python -m worker.engine.adapter_files.merging.checking PARENT_PID < request.json > result.json

The input is a CheckRequest, the output a CheckAnswer. As for imports, no weight of the base is read.
"""

from dataclasses import dataclass
from itertools import combinations

from core.domain.adapter_check import (
    CheckAnswer,
    CheckedAdapter,
    CheckedPair,
    CheckInput,
    CheckRequest,
    CheckResult,
    LayerMisfit,
    describe_pair,
    relate,
    summarise,
)
from worker.engine.adapter_files.answering import MAX_REFUSAL_CHARS, answer_or_refuse, answer_order, printable
from worker.engine.adapter_files.merging.compare import Modules, compare, list_differences, measure_layers
from worker.engine.adapter_files.merging.updates import join
from worker.engine.adapter_files.proof.adapters import read_modules
from worker.engine.adapter_files.proof.files import read_file
from worker.engine.adapter_files.proof.fitting import find_misfits, fit
from worker.engine.adapter_files.proof.layers import BaseLayers, Layer, read_layers
from worker.engine.errors import BadInput

DIGITS = 6


@dataclass(frozen=True)
class Read:
    """An adapter that was read. ``modules`` is None if it does not fit; ``norms`` too for a DoRA."""

    name: str
    found: CheckedAdapter
    modules: Modules | None = None
    norms: dict[Layer, float] | None = None


def check_adapters(order: CheckRequest) -> CheckAnswer:
    return answer_or_refuse(_check_adapters, order, lambda refusal: CheckAnswer(refusal=refusal))


def _check_adapters(order: CheckRequest) -> CheckAnswer:
    layers = read_layers(order.family, order.model_folder)
    read = [_read(one, layers) for one in order.inputs]
    pairs = tuple(_compare(first, second) for first, second in combinations(read, 2))
    adapters = tuple(one.found for one in read)
    result = CheckResult(
        fits=all(one.fits for one in adapters),
        summary=summarise(order.model, [one.name for one in read], adapters, pairs),
        adapters=adapters,
        differences=tuple(list_differences([one.modules for one in read])),
        pairs=pairs,
    )
    return CheckAnswer(result=result)


def _read(given: CheckInput, layers: BaseLayers) -> Read:
    file = read_file(given.file)
    known = CheckedAdapter(id=given.id, fits=False, same_base=given.same_base)
    try:
        rows = read_modules(given.file, file, fit(file, layers), layers)
    except BadInput as error:
        misfits = [LayerMisfit(layer=printable(key, 200), detail=why) for key, why in find_misfits(file, layers)]
        reason = printable(str(error), MAX_REFUSAL_CHARS)
        return Read(given.name, known.model_copy(update={"reason": reason, "misfits": tuple(misfits)}))
    modules = {row.layer: row for row in rows}
    fitting = known.model_copy(update={"fits": True, "num_layers": len(modules)})
    if any(row.magnitude is not None for row in rows):
        return Read(given.name, fitting, modules)
    norms = measure_layers(modules)
    return Read(given.name, fitting.model_copy(update={"norm": round(join(norms.values()), DIGITS)}), modules, norms)


def _compare(first: Read, second: Read) -> CheckedPair:
    ids = first.found.id, second.found.id
    if first.modules is None or second.modules is None or first.norms is None or second.norms is None:
        sentence = describe_pair(first.name, second.name, None, 0)
        return CheckedPair(adapters=ids, cosine=None, relation="unknown", sentence=sentence)
    cosine, layers = compare(first.modules, second.modules, (first.norms, second.norms))
    return CheckedPair(
        adapters=ids,
        cosine=cosine,
        relation=relate(cosine),
        sentence=describe_pair(first.name, second.name, cosine, len(layers)),
        layers=tuple(layers),
    )


def main() -> None:
    answer_order(CheckRequest.model_validate_json, check_adapters)


if __name__ == "__main__":
    main()
