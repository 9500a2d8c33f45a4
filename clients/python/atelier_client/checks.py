"""Comparisons of adapters with a base and with one another."""

from typing import Any

from atelier_client.models import Answer, ErrorInfo


class CheckedAdapter(Answer):
    """An adapter's fit to a base. ``norm``: how large its update is."""

    id: str
    fits: bool
    same_base: bool = True
    reason: str | None = None
    misfits: tuple[dict[str, Any], ...] = ()
    num_layers: int = 0
    norm: float | None = None


class CheckedPair(Answer):
    """How far two adapters overlap. ``layers``: the cosine of each that both change."""

    adapters: tuple[str, str]
    cosine: float | None = None
    relation: str
    sentence: str = ""
    layers: tuple[dict[str, Any], ...] = ()


class CheckResult(Answer):
    """``differences``: layers that the adapters do not all change, or with unlike ranks."""

    fits: bool
    summary: str = ""
    adapters: tuple[CheckedAdapter, ...] = ()
    differences: tuple[dict[str, Any], ...] = ()
    pairs: tuple[CheckedPair, ...] = ()


class AdapterCheck(Answer):
    """``result`` is null until the check is ``done``."""

    id: str
    status: str
    model: str
    adapters: tuple[str, ...] = ()
    result: CheckResult | None = None
    error: ErrorInfo | None = None
    waiting_reason: str | None = None
