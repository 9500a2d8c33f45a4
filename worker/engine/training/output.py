"""What a training gives: its adapter's files, and its figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from core.domain.artifacts import AdapterFormat
from core.domain.outcome import Outcome
from core.domain.plan import TrainPlan
from worker.engine.adapter_files.formats import LoraModule, describe_for_kohya, export, to_kohya
from worker.engine.adapters import read_modules
from worker.engine.families.protocol import Network

AdapterFiles = Mapping[AdapterFormat, Path]


@dataclass(frozen=True)
class TrainResult:
    """``modules``: the contents of the files, on the CPU."""

    files: AdapterFiles
    outcome: Outcome
    modules: Sequence[LoraModule]


def write_adapter(
    plan: TrainPlan, precision: str, networks: Sequence[Network], step: int, cover: Image.Image | None, folder: Path
) -> tuple[list[LoraModule], AdapterFiles]:
    """The networks' current adapter, which is of ``step``, in both formats."""
    modules = read_modules(networks)
    described = describe_for_kohya(plan, to_kohya(modules), precision, step, cover)
    return modules, export(modules, described, folder)
