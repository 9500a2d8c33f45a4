"""Whether adapters fit a base, and one another: the order to the program that reads them, and its answer.

Two updates D1 and D2 are compared by their cosine, <D1, D2> / (|D1| |D2|), over all layers together. Added up at equal
sizes, they are sqrt(1 + cosine) times as large as two updates that have nothing to do with each other, which is what
``RELATED`` is chosen by: below it the difference is less than 5 %.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from core.domain.base import Frozen
from core.domain.counts import counted, listed
from core.domain.model import Family

MAX_CHECKED = 8
RELATED = 0.1
"""From this cosine on two adapters reinforce each other, and from its negative on they fight."""

Relation = Literal["reinforce", "independent", "fight", "unknown"]
"""``unknown``: one of them is a DoRA, or does not fit the base."""


class LayerMisfit(Frozen):
    """A layer of an adapter whose size is not the base's."""

    layer: str = Field(description="The layer's name in the adapter's file.")
    detail: str = Field(description="Its sizes in the file and in the base.")


class CheckedAdapter(Frozen):
    """One adapter's fit. ``norm``: the Frobenius norm of its whole update; None for a DoRA, and if it does not fit."""

    id: str
    fits: bool = Field(description="Whether every layer of it has its place in the base.")
    same_base: bool = Field(
        description="Whether it was trained or checked on exactly this base. Another may fit, and act otherwise."
    )
    reason: str | None = Field(None, description="Why it does not fit; null if it does.")
    misfits: tuple[LayerMisfit, ...] = Field((), description="The layers whose size is not the base's.")
    num_layers: int = Field(0, description="The number of layers that it changes; 0 if it does not fit.")
    norm: float | None = Field(
        None, description="The Frobenius norm of its update; null for a DoRA, and if it does not fit."
    )


class LayerDifference(Frozen):
    """A layer that the adapters do not all change, or not with the same rank."""

    layer: str = Field(description="The network and the layer's path in it, by diffusers' names.")
    ranks: tuple[int | None, ...] = Field(
        description="The rank in each adapter, in the order of `adapters`; null where the layer is left alone."
    )


class LayerOverlap(Frozen):
    """A layer that both adapters change."""

    layer: str = Field(description="The network and the layer's path in it, by diffusers' names.")
    cosine: float = Field(description="Between the two updates of this layer, from -1 to 1.")
    contribution: float = Field(description="Its part of the pair's cosine: those of all layers add up to it.")


class CheckedPair(Frozen):
    """How far two adapters do the same."""

    adapters: tuple[str, str] = Field(description="Their ids.")
    cosine: float | None = Field(description="Between the two updates, from -1 to 1; null if it is unknown.")
    relation: Relation = Field(
        description=f"`reinforce` from a cosine of {RELATED} on, `fight` from -{RELATED} on, `independent` between "
        "them; `unknown` if one of the two is a DoRA or does not fit."
    )
    sentence: str = Field(description="The same in words.")
    layers: tuple[LayerOverlap, ...] = Field(
        (), description="The layers that both change, the largest contributions first."
    )


class CheckResult(Frozen):
    """What is known of adapters on a base, and of each pair of them."""

    fits: bool = Field(description="Whether all of them fit the base.")
    summary: str = Field(description="The answer in words.")
    adapters: tuple[CheckedAdapter, ...] = Field(description="Each adapter, in the order of the request.")
    differences: tuple[LayerDifference, ...] = Field(
        description="The layers in which those that fit differ: changed by some only, or with unlike ranks."
    )
    pairs: tuple[CheckedPair, ...] = Field(description="Each pair of adapters.")


class CheckInput(Frozen):
    """``same_base``: it was trained or checked on exactly the base that is asked about."""

    id: str
    name: str
    file: Path
    same_base: bool


class CheckRequest(Frozen):
    """The order: compare ``inputs`` with the base in ``model_folder`` and with one another, within ``memory_bytes``."""

    family: Family
    model: str
    model_folder: Path
    inputs: tuple[CheckInput, ...]
    memory_bytes: int


class CheckAnswer(Frozen):
    """Either the ``result``, or the reason for the refusal."""

    result: CheckResult | None = None
    refusal: str | None = None


def relate(cosine: float | None) -> Relation:
    if cosine is None:
        return "unknown"
    if abs(cosine) < RELATED:
        return "independent"
    return "reinforce" if cosine > 0 else "fight"


def describe_pair(first: str, second: str, cosine: float | None, num_common: int) -> str:
    """``first`` and ``second``: the adapters' names. ``num_common``: the layers that both change."""
    both, kind = f"{first} and {second}", relate(cosine)
    if cosine is None:
        return f"How far {both} overlap is unknown: that needs two adapters that fit the base, and none of them a DoRA."
    if not num_common:
        return f"{both} are independent: there is no layer that both change."
    measured, size = (
        f"their updates have a cosine of {round(cosine, 2) + 0.0:.2f}",
        abs(math.sqrt(max(0.0, 1 + cosine)) - 1),
    )
    if kind == "independent":
        return f"{both} are nearly independent: {measured}, so each acts in a stack much as it does alone."
    if kind == "fight":
        return f"{both} fight: {measured}, so each takes away from the other, up to {size:.0%} of the stack."
    return f"{both} reinforce each other: {measured}, so a stack is up to {size:.0%} stronger. Lower the weights."


def summarise(
    model: str, names: Sequence[str], adapters: Sequence[CheckedAdapter], pairs: Sequence[CheckedPair]
) -> str:
    """``names``: those of ``adapters``. Pairs that are independent are passed over, except for the only one."""
    sentences = [_describe_fit(model, [name for name, one in zip(names, adapters, strict=True) if not one.fits], names)]
    if others := sum(one.fits and not one.same_base for one in adapters):
        sentences.append(f"{counted(others, 'adapter is', 'adapters are')} for another base of the same shape.")
    related = [pair.sentence for pair in pairs if pair.relation != "independent" or len(pairs) == 1]
    if pairs and not related:
        related = ["No two of them have much in common."]
    return " ".join([*sentences, *related])


def _describe_fit(model: str, misfits: Sequence[str], names: Sequence[str]) -> str:
    if misfits:
        return f"{listed(misfits)} {'does' if len(misfits) == 1 else 'do'} not fit {model}."
    return f"{names[0]} fits {model}." if len(names) == 1 else f"All {len(names)} fit {model}."
