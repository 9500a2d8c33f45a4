"""The facts about an adapter's file: which tools read it completely, and the reason for each key that one drops."""

from typing import Literal

from core.domain.artifacts import AdapterFormat
from core.domain.base import Frozen

Tool = Literal["diffusers", "sd-scripts", "a1111", "comfyui"]


MAX_DROPPED = 20
"""At most this many dropped keys are listed per tool; ``num_keys - num_resolved`` counts all."""


class DroppedKey(Frozen):
    key: str
    reason: str


Verdict = Literal["same", "differs", "wrong", "partial", "nothing"]
"""A tool's result with a file: the trained update; nearly that; another one, though the keys are placed; a part of
it; or nothing."""


class Measured(Frozen):
    """The update that the tool's own loader applied to the base's layers, compared with the trained one. ``num_same``:
    layers whose update, and magnitude if there is one, is the trained one. ``max_difference``: the largest relative
    difference of a layer's update; None if some layer got none."""

    num_layers: int
    num_same: int
    max_difference: float | None


class ToolProof(Frozen):
    """``loads``: every key reaches a layer that it fits. ``required``: this type of file is promised to load here.
    ``offered``: the tool lists the file for such a base (A1111 hides by metadata). ``opens_base``: the tool opens such
    a base at all. ``num_misplaced``: keys that reach the wrong layer. ``verdict`` is None in proofs of earlier
    versions; ``measured`` if the tool's loader was not run."""

    tool: Tool
    required: bool
    loads: bool
    offered: bool = True
    opens_base: bool = True
    verdict: Verdict | None = None
    num_keys: int
    num_resolved: int
    num_misplaced: int = 0
    dropped: tuple[DroppedKey, ...] = ()
    notes: tuple[str, ...] = ()
    measured: Measured | None = None


class LoadProof(Frozen):
    """The proof of one file with one base."""

    format: AdapterFormat
    family: str
    tools: tuple[ToolProof, ...]

    @property
    def holds(self) -> bool:
        """Every tool that is promised reads the whole file and offers it."""
        return all(tool.loads and tool.offered for tool in self.tools if tool.required)
