"""Turns LyCORIS' LoHa and LoKr layers into LoRA's, which every tool reads.

Both are low-rank updates in another form (LyCORIS, arXiv 2309.14859; the arithmetic is that of its ``modules/loha.py``
and ``modules/lokr.py``, and of ComfyUI's ``weight_adapter``):

- LoHa: (w1_a @ w1_b) * (w2_a @ w2_b), of rank r1 * r2 at most: its factors are the products of each column of one with
  each of the other.
- LoKr: kron(w1, w2), whose singular values are the products of those of w1 and w2.

A LoRA of that rank holds either exactly. Layers of a higher rank than MAX_RANK are cut to it if that changes them by
less than TOLERANCE, and refused otherwise.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from core.domain.adapter_import import Conversion
from worker.engine.adapter_files.merging.updates import Update, balance, join, measure, subtract, truncate
from worker.engine.adapter_files.proof.files import split_key
from worker.engine.device import is_out_of_memory
from worker.engine.errors import BadInput

MAX_RANK = 256
TOLERANCE = 1e-3
"""Of a layer's update, in the Frobenius norm: less than float16 costs."""
NEGLIGIBLE = 1e-7
"""A singular value below this share of the largest is rounding."""
CONVERTED = "converted.safetensors"

Parts = Mapping[str, torch.Tensor]
"""A layer's tensors by their names after ``hada_`` or ``lokr_``, in float64."""
_PREFIXES = {"hada_": "LoHa", "lokr_": "LoKr"}


def convert(path: Path, folder: Path) -> tuple[Path, Conversion | None]:
    """The file itself if it has neither; else a file in ``folder`` in which they are LoRA's, and what that was.

    Raises BadInput for a layer that no LoRA of MAX_RANK holds, and for tensors that do not fit one another.
    """
    with safe_open(path, framework="pt") as file:
        layers = _find_layers(list(file.keys()))
        if not layers:
            return path, None
        metadata = file.metadata() or {}
        tensors: dict[str, torch.Tensor] = {}
        sizes, errors, ranks = [], [], []
        for name, (kind, keys) in layers.items():
            try:
                parts = {part: file.get_tensor(key).double() for part, key in keys.items()}
                _check_sizes(parts)
                exact = _multiply_loha(parts) if kind == "LoHa" else _multiply_lokr(parts)
            except (RuntimeError, ValueError, IndexError, SafetensorError, AttributeError, KeyError) as why:
                if is_out_of_memory(why):
                    raise
                raise BadInput(f"the {kind} tensors of {name} do not fit one another") from why
            made = _cut(exact, f"{name}, a {kind} layer,")
            tensors |= _write(name, made)
            stored = Update(*(half.double() for half in _halves(made)))
            sizes.append(measure(exact))
            errors.append(measure(subtract(exact, stored)))
            ranks.append(made.rank)
        used = {key for _, keys in layers.values() for key in keys.values()}
        tensors |= {key: file.get_tensor(key) for key in file.keys() if key not in used}  # noqa: SIM118
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / CONVERTED, metadata)
    kinds = " and ".join(sorted({kind for kind, _ in layers.values()}))
    total = join(sizes)
    error = round(join(errors) / total, 7) if total else 0.0
    return folder / CONVERTED, Conversion(kind=kinds, num_layers=len(layers), rank=max(ranks), error=error)


def _find_layers(keys: list[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Name -> its kind and its whole set of tensors, by part; an incomplete layer is left to the reader, which names
    what it ignores."""
    found: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    alphas: dict[str, str] = {}
    for key in keys:
        name, suffix = split_key(key)
        if suffix == "alpha":
            alphas[name] = key
        for prefix, kind in _PREFIXES.items():
            if suffix.startswith(prefix):
                found[name][kind][suffix.removeprefix(prefix)] = key
    return {
        name: (kind, parts | ({"alpha": alphas[name]} if name in alphas else {}))
        for name, kinds in found.items()
        for kind, parts in kinds.items()
        if len(kinds) == 1 and _is_whole(kind, parts.keys())
    }


def _is_whole(kind: str, parts: object) -> bool:
    names = set(parts)  # type: ignore[call-overload]
    pairs = [{f"w{number}_a", f"w{number}_b"} for number in (1, 2)]
    if kind == "LoHa":
        return names in ({*pairs[0], *pairs[1]}, {*pairs[0], *pairs[1], "t1", "t2"})
    first = names & {"w1", *pairs[0]} in ({"w1"}, pairs[0])
    second = names & {"w2", *pairs[1], "t2"} in ({"w2"}, pairs[1], {*pairs[1], "t2"})
    return bool(first and second)


def _check_sizes(parts: Parts) -> None:
    if any(tensor.numel() == 0 or (tensor.ndim < 2 and part != "alpha") for part, tensor in parts.items()):
        raise ValueError("an empty matrix, or none at all")


def _multiply_loha(parts: Parts) -> Update:
    rank = parts["w1_b"].shape[0]
    scale = _read_alpha(parts, rank) / rank
    if "t1" in parts:
        dense = [_rebuild(parts[f"t{n}"], parts[f"w{n}_a"], parts[f"w{n}_b"]).flatten(1) for n in (1, 2)]
        return _factor(dense[0] * dense[1] * scale)
    (up1, up2), (down1, down2) = ([parts[f"w{n}_{half}"].flatten(1) for n in (1, 2)] for half in "ab")
    up = (up1[:, :, None] * up2[:, None, :]).flatten(1)
    down = (down1[:, None, :] * down2[None, :, :]).flatten(0, 1)
    return Update(up * scale, down)


def _multiply_lokr(parts: Parts) -> Update:
    """As in LyCORIS, the scale is 1 where both factors are whole matrices."""
    ranks = [parts[f"w{n}_b"].shape[0] for n in (1, 2) if f"w{n}_b" in parts]
    scale = _read_alpha(parts, ranks[-1]) / ranks[-1] if ranks else 1.0
    first = parts["w1"] if "w1" in parts else parts["w1_a"] @ parts["w1_b"]
    if "w2" in parts:
        second = parts["w2"]
    elif "t2" in parts:
        second = _rebuild(parts["t2"], parts["w2_a"], parts["w2_b"])
    else:
        second = parts["w2_a"] @ parts["w2_b"]
    one, two = _factor(first * scale), _factor(second.flatten(1))
    return Update(torch.kron(one.up, two.up), torch.kron(one.down, two.down))


def _rebuild(core: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Tucker's form: core (r, r, h, w), a (r, out), b (r, in)."""
    return torch.einsum("ijkl,jr,ip->prkl", core, b, a)


def _factor(matrix: torch.Tensor) -> Update:
    up, values, down = torch.linalg.svd(matrix, full_matrices=False)
    return Update(up * values, down)


def _read_alpha(parts: Parts, rank: int) -> float:
    alpha = float(parts["alpha"]) if "alpha" in parts else float(rank)
    if not 0 < alpha < 1e6:
        raise BadInput("an alpha of the file is not a positive number")
    return alpha


def _cut(exact: Update, name: str) -> Update:
    """Of the rank that it has, or MAX_RANK."""
    if not (torch.isfinite(exact.up).all() and torch.isfinite(exact.down).all()):
        raise BadInput(f"{name} has NaN or infinite weights: the file is broken")
    values = _singular_values(exact)
    rank = max(1, int((values > NEGLIGIBLE * values[0]).sum()))
    total, missing = float(values.norm()), float(values[MAX_RANK:].norm())
    if missing > TOLERANCE * total:
        raise BadInput(
            f"{name} has a rank of {rank}. The closest LoRA of rank {MAX_RANK}, the most that is written here, would "
            f"miss {missing / total:.1%} of its update"
        )
    return balance(truncate(exact, min(rank, MAX_RANK)))


def _singular_values(update: Update) -> torch.Tensor:
    up_core, down_core = torch.linalg.qr(update.up)[1], torch.linalg.qr(update.down.T)[1]
    values: torch.Tensor = torch.linalg.svdvals(up_core @ down_core.T)
    return values


def _halves(made: Update) -> tuple[torch.Tensor, torch.Tensor]:
    """(up, down) in float16 if it holds them, else in float32."""
    halves = made.up.half(), made.down.half()
    if all(bool(torch.isfinite(half).all()) for half in halves):
        rounded = Update(halves[0].double(), halves[1].double())
        if measure(subtract(made, rounded)) <= TOLERANCE * measure(made):
            return halves
    return made.up.float(), made.down.float()


def _write(name: str, made: Update) -> dict[str, torch.Tensor]:
    up, down = _halves(made)
    return {
        f"{name}.lora_up.weight": up,
        f"{name}.lora_down.weight": down,
        f"{name}.alpha": torch.tensor(float(made.rank)),
    }
