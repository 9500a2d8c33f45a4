"""Compares the memory that a base's table predicts with what jobs take, phase by phase, on this machine's CPU.

    python -m bench.memory > out/memory.md

Needs Linux, some 5 GB of memory and 3 GB of disk; takes some minutes. The rows are those of docs/benchmarks.md.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from bench.memory.cases import CASES, TINY
from bench.memory.job import Measurement
from tests.fixtures.true_bases import write_true_base
from worker.engine.bases.inspection import write_card
from worker.engine.memory.tracing import add_memory

HEADER = """| base | job | phase | tensors | predicted | measured | error |
| --- | --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    print(HEADER)
    with tempfile.TemporaryDirectory() as folder:
        folders = {"tiny": TINY, "sd15": Path(folder) / "sd15"}
        info = write_true_base(folders["sd15"])
        write_card(folders["sd15"], add_memory(info, folders["sd15"]))
        for case in CASES:
            command = [sys.executable, "-m", "bench.memory.job", case.name, str(folders[case.base])]
            made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            for row in map(Measurement.model_validate_json, made.splitlines()):
                print(row.describe(case.base, case.title), flush=True)


if __name__ == "__main__":
    main()
