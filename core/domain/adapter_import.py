"""Imported adapters: the order to the program that checks one, and its answer."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from core.domain.artifacts import AdapterFormat
from core.domain.base import Frozen
from core.domain.model import Family
from core.domain.proof import LoadProof
from core.domain.spec import AdapterType

AdapterSource = Literal["job", "import", "merge"]


PROGRAM_BYTES = 2 * 1024**3
"""The program's own memory: torch, the base's layers, threads."""
BYTES_PER_FILE_BYTE = 8
"""The file's tensors, in single precision if they were half, and both files that are written from them."""


MAX_IGNORED = 50
"""At most this many ignored tensors of a file are named; ``num_ignored`` counts all."""


class IgnoredKey(Frozen):
    """A tensor of an imported file that is not in the adapter, and why."""

    key: str
    reason: str


class Conversion(Frozen):
    """An import's layers that were of another type and became LoRA's."""

    kind: str = Field(description="`LoHa`, `LoKr`, or `LoHa and LoKr`.")
    num_layers: int = Field(description="How many layers of the file became LoRA's.")
    rank: int = Field(description="The largest of the resulting layers.")
    error: float = Field(description="What the result misses of their updates: the ratio of the Frobenius norms.")


class ImportRequest(Frozen):
    """The order: check ``file`` against the base in ``model_folder``, and rewrite it into ``folder``, within
    ``memory_bytes``."""

    family: Family
    model_folder: Path
    file: Path
    folder: Path
    memory_bytes: int


class Findings(Frozen):
    """An adapter's facts after its file was read. ``trigger`` is the file's own, or empty. ``ignored``: the first
    tensors of the file that were ignored."""

    type: AdapterType
    rank: int
    trigger: str
    proofs: dict[AdapterFormat, LoadProof]
    conversion: Conversion | None = None
    ignored: tuple[IgnoredKey, ...] = ()
    num_ignored: int = 0


class ImportResult(Frozen):
    """The answer: either ``findings`` with the written ``files``, or the reason for the refusal."""

    findings: Findings | None = None
    files: dict[AdapterFormat, Path] = Field(default_factory=dict)
    refusal: str | None = None
