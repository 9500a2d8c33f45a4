"""What is known of an adapter's file: which tools read it whole, and the reason for each key that one drops."""

from typing import Literal

from core.domain.artifacts import AdapterFormat
from core.domain.base import Frozen

Tool = Literal["diffusers", "sd-scripts", "a1111", "comfyui"]


MAX_DROPPED = 20
"""So many dropped keys are told of each tool; ``num_keys - num_resolved`` counts all."""


class DroppedKey(Frozen):
    key: str
    reason: str


Verdict = Literal["same", "differs", "wrong", "partial", "nothing"]
"""What a tool makes of a file: the trained update; nearly that; another one, though the keys are placed; a part of it;
or nothing."""


class Measured(Frozen):
    """What the tool's own loader really put on the base's layers, held against what was trained. ``num_same``: layers
    whose update, and magnitude if there is one, arrived. ``max_difference``: the largest of a layer's update, as a
    share of that update; None where some layer got none."""

    num_layers: int
    num_same: int
    max_difference: float | None


class ToolProof(Frozen):
    """``loads``: every key lands on a layer that it fits. ``required``: this kind of file is promised to load here.
    ``offered``: the tool shows the file in its list for such a base (A1111 hides by metadata). ``opens_base``: the tool
    opens such a base at all. ``num_misplaced``: keys that land on a layer other than their own. ``verdict`` is None in
    proofs of earlier versions; ``measured`` where the tool's loader was not run."""

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
    """Of one file with one base. ``images_match``: the picture drawn with this file equals the one drawn with the
    other format's; None while nobody has looked. ``max_pixel_difference`` is in steps of 0..255."""

    format: AdapterFormat
    family: str
    tools: tuple[ToolProof, ...]
    images_match: bool | None = None
    max_pixel_difference: int | None = None

    @property
    def holds(self) -> bool:
        """Every tool that is promised reads the file whole and offers it, and no picture says otherwise."""
        promised = [tool for tool in self.tools if tool.required]
        return self.images_match is not False and all(tool.loads and tool.offered for tool in promised)
