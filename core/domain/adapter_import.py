"""Adapters made elsewhere: what is asked of the program that checks one, and what it answers."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from core.domain.artifacts import AdapterFormat
from core.domain.base import Frozen
from core.domain.model import Family
from core.domain.proof import LoadProof
from core.domain.spec import AdapterType

AdapterStatus = Literal["checking", "ready", "rejected"]
AdapterSource = Literal["job", "import"]


PROGRAM_BYTES = 2 * 1024**3
"""What the program itself may take: torch, the base's layers, threads."""
BYTES_PER_FILE_BYTE = 8
"""The file's tensors, in single precision where they were half, and both files that are written of them."""


MAX_IGNORED = 50
"""So many tensors of a file that were not taken over are named; ``num_ignored`` counts all."""


class IgnoredKey(Frozen):
    """A tensor of an imported file that is not in the adapter, and why."""

    key: str
    reason: str


class ImportRequest(Frozen):
    """The order: check ``file`` against the base in ``model_folder``, and write it anew into ``folder``, within
    ``memory_bytes``."""

    family: Family
    model_folder: Path
    file: Path
    folder: Path
    memory_bytes: int


class Findings(Frozen):
    """What is known of an adapter once its file was read. ``trigger`` is what the file itself says, or empty.
    ``ignored``: the first of the file's tensors that were not taken over."""

    type: AdapterType
    rank: int
    trigger: str
    proofs: dict[AdapterFormat, LoadProof]
    ignored: tuple[IgnoredKey, ...] = ()
    num_ignored: int = 0


class ImportResult(Frozen):
    """The answer: either ``findings`` with the written ``files``, or the reason of the refusal."""

    findings: Findings | None = None
    files: dict[AdapterFormat, Path] = Field(default_factory=dict)
    refusal: str | None = None
