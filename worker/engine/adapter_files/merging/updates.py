"""The update of one layer as a product of two factors, and arithmetic on it that never forms the product.

A dense update of a layer may have millions of numbers, and its factors some ten thousand. Sums, norms, inner products
and the singular values of such an update all follow from the factors; every function here works on them, in float64.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from worker.engine.adapter_files.proof.adapters import AdapterModule


@dataclass(frozen=True)
class Update:
    """The update up @ down of a layer: up (out, rank), down (rank, in), float64. A convolution's kernel is part of
    ``in``."""

    up: torch.Tensor
    down: torch.Tensor

    @property
    def rank(self) -> int:
        return int(self.down.shape[0])


def read_update(module: AdapterModule, weight: float = 1.0) -> Update:
    """A layer's update times ``weight``, with the scale alpha / rank in it. DoRA's magnitude is no part of it."""
    scale = weight * module.alpha / module.down.shape[0]
    return Update(module.up.double().flatten(1) * scale, module.down.double().flatten(1))


def add(updates: Sequence[Update]) -> Update:
    """The exact sum: the ranks are added up."""
    return Update(torch.cat([one.up for one in updates], 1), torch.cat([one.down for one in updates]))


def inner_product(first: Update, second: Update) -> float:
    """<D1, D2> = tr(D1^T D2), the sum of the products of their entries."""
    return float(((first.up.T @ second.up) * (first.down @ second.down.T)).sum())


def measure(update: Update) -> float:
    """The Frobenius norm, with a relative error of some 1e-8 of the largest term of the sum."""
    return math.sqrt(max(inner_product(update, update), 0.0))


def join(norms: Iterable[float]) -> float:
    """The norm of several layers together."""
    return math.sqrt(sum(norm**2 for norm in norms))


def subtract(first: Update, second: Update) -> Update:
    return add([first, Update(-second.up, second.down)])


def truncate(update: Update, rank: int) -> Update:
    """The best approximation of at most this rank in the Frobenius norm (Eckart-Young), from a QR decomposition of each
    factor and the SVD of the small matrix between them."""
    outer, up_core = torch.linalg.qr(update.up)
    inner, down_core = torch.linalg.qr(update.down.T)
    left, values, right = torch.linalg.svd(up_core @ down_core.T, full_matrices=False)
    roots = values[:rank].sqrt()
    return Update(outer @ (left[:, :rank] * roots), (right[:rank] * roots[:, None]) @ inner.T)


def balance(update: Update) -> Update:
    """The same update, where each column of ``up`` is as long as its row of ``down``: so both are furthest from what a
    narrow type cannot hold."""
    ups, downs = update.up.norm(dim=0), update.down.norm(dim=1)
    factor = torch.where((ups > 0) & (downs > 0), (downs / ups.clamp(min=1e-300)).sqrt(), torch.ones_like(ups))
    return Update(update.up * factor, update.down / factor[:, None])


def round_to(update: Update, dtype: torch.dtype) -> Update:
    """What a file with halves of this type holds of it; infinite where the type's range ends."""
    return Update(update.up.to(dtype).double(), update.down.to(dtype).double())
