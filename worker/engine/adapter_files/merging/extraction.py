"""Extracts an adapter from a fine-tuned base and the one that it was tuned from, and writes it in both formats.

    python -m worker.engine.adapter_files.merging.extraction PARENT_PID < request.json > result.json

The input is an ExtractionRequest, the output a MergeResult. For each layer the difference of the two weights is cut to
a rank by the randomized SVD of arXiv 0909.4061 (torch.svd_lowrank), as kohya's ``extract_lora_from_models.py`` does
exactly. One layer of each base is in memory at a time.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from core.domain.adapter_import import Findings
from core.domain.adapter_merge import ExtractionRequest, LayerError, MergeError, MergeResult
from worker.engine.adapter_files.answering import answer_or_refuse, answer_order
from worker.engine.adapter_files.merging.merge import pad_text_encoders
from worker.engine.adapter_files.merging.program import describe_made
from worker.engine.adapter_files.merging.updates import join
from worker.engine.adapter_files.proof.adapters import AdapterModule
from worker.engine.adapter_files.proof.layers import Layer, list_layers
from worker.engine.adapter_files.proof.loaded_files import prove_files
from worker.engine.adapter_files.writing import check_same, name_module, type_of, write_files
from worker.engine.errors import BadInput
from worker.engine.families.protocol import Network
from worker.engine.families.registry import build_networks
from worker.engine.hashes import hash_folder

OVERSAMPLING, POWER_ITERATIONS = 16, 4
NEGLIGIBLE = 1e-6
"""A difference below this share of the weight's norm is rounding."""
REST = "everything that no adapter changes"


def extract_adapter(order: ExtractionRequest) -> MergeResult:
    return answer_or_refuse(_extract, order, lambda refusal: MergeResult(refusal=refusal))


@torch.no_grad()
def _extract(order: ExtractionRequest) -> MergeResult:
    _check_weights(order.model_folder, order.model_sha256)
    _check_weights(order.tuned_folder, order.tuned_sha256)
    networks = build_networks(order.family, order.model_folder)
    layers = list_layers(order.family, networks)
    torch.manual_seed(0)  # the sketches' directions
    modules: list[AdapterModule] = []
    sizes, errors = dict[str, float](), dict[str, float]()
    for network in networks:
        for layer, name, tuned, base in _list_changes(network, order):
            if layer is None:
                sizes[REST] = errors[REST] = math.hypot(sizes.get(REST, 0.0), float((tuned - base).norm()))
                continue
            module, error = _cut(layer, tuned - base, order.rank)
            modules.append(module)
            sizes[name], errors[name] = float((tuned - base).norm()), error
    if not modules:
        raise BadInput("the two bases do not differ in any layer that an adapter changes")
    written = pad_text_encoders(modules)
    named = [name_module(module, networks) for module in written]
    files = write_files(named, describe_made(order, order.rank), order.family, order.folder)
    findings = Findings(
        type=type_of(named),
        rank=order.rank,
        trigger=order.trigger,
        proofs=prove_files(layers, networks, files, written),
    )
    check_same(files, layers)
    return MergeResult(findings=findings, files=files, error=_describe_error(sizes, errors))


def _check_weights(folder: Path, sha256: str) -> None:
    """An extraction takes minutes, and its adapter says for which base it is: so the files are read once more, which
    jobs spare themselves. Raises BadInput."""
    if hash_folder(folder) != sha256:
        raise BadInput(
            f"the files of the base {folder.name} are not those that were registered: they have changed since"
        )


def _list_changes(
    network: Network, order: ExtractionRequest
) -> Iterator[tuple[Layer | None, str, torch.Tensor, torch.Tensor]]:
    """Each weight that differs, in float32, of both bases; without a layer where no adapter changes it."""
    part = network.diffusers_prefix
    targets = set(network.list_targets("locon", "all"))
    with ExitStack() as stack:
        tuned, base = (_Weights(stack, folder / part) for folder in (order.tuned_folder, order.model_folder))
        if tuned.keys != base.keys:
            raise BadInput(f"the two bases have other weights in {part}: one was not tuned from the other")
        for key in sorted(base.keys):
            now, before = tuned.read(key), base.read(key)
            if now.shape != before.shape:
                raise BadInput(f"{part}.{key} is {list(now.shape)} in one base and {list(before.shape)} in the other")
            if not torch.isfinite(now).all():
                raise BadInput(f"{part}.{key} has NaN or infinite weights: the fine-tuned base is broken")
            if (now - before).norm() <= NEGLIGIBLE * before.norm():
                continue
            path = key.removesuffix(".weight")
            own = path if path in targets else path.removeprefix("text_model.")
            if not key.endswith(".weight") or own not in targets:
                yield None, REST, now, before
                continue
            layer = Layer(part, network.diffusers_path(own))
            yield layer, f"{part}.{layer.path}", now, before


class _Weights:
    """A part's tensors by name, from one file or several; of two precisions the larger."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        files = sorted(folder.glob("*.safetensors"))
        plain = [path for path in files if ".fp16." not in path.name]
        if not files:
            raise BadInput(f"{folder.name} of a base has no .safetensors file")
        self._files: dict[str, Any] = {}
        for path in plain or files:
            file = stack.enter_context(safe_open(path, framework="pt"))
            self._files |= dict.fromkeys(file.keys(), file)

    @property
    def keys(self) -> frozenset[str]:
        """Without buffers that only some versions of transformers write."""
        return frozenset(key for key in self._files if not key.endswith("position_ids"))

    def read(self, key: str) -> torch.Tensor:
        tensor: torch.Tensor = self._files[key].get_tensor(key).float()
        return tensor


def _cut(layer: Layer, change: torch.Tensor, rank: int) -> tuple[AdapterModule, float]:
    """And the norm of what it misses."""
    matrix = change.flatten(1)
    rank = min(rank, *matrix.shape)
    sketch = min(rank + OVERSAMPLING, *matrix.shape)
    left, values, right = torch.svd_lowrank(matrix, sketch, POWER_ITERATIONS)
    roots = values[:rank].sqrt()
    up, down = (left[:, :rank] * roots).half().float(), (right[:, :rank] * roots).T.half().float()
    ones = [1] * (change.ndim - 2)
    module = AdapterModule(
        layer=layer,
        down=down.reshape(rank, *change.shape[1:]).half().contiguous(),
        up=up.reshape(change.shape[0], rank, *ones).half().contiguous(),
        alpha=float(rank),
    )
    return module, float((matrix - up @ down).norm())


def _describe_error(sizes: Mapping[str, float], errors: Mapping[str, float]) -> MergeError:
    """``total`` counts what no adapter can hold, too."""
    relative = {name: round(errors[name] / sizes[name], 7) for name in sizes if sizes[name]}
    rows = tuple(LayerError(layer=name, error=relative[name]) for name in sorted(relative, key=lambda n: -relative[n]))
    return MergeError(total=round(join(errors.values()) / join(sizes.values()), 7), layers=rows)


def main() -> None:
    answer_order(ExtractionRequest.model_validate_json, extract_adapter)


if __name__ == "__main__":
    main()
