"""A job's peak of memory in each phase, against the base's traced table.

python -m bench.gpu.memory BASE_FOLDER CASE --device cuda > rows.jsonl
"""

import argparse
import tempfile
from pathlib import Path

import torch

from bench.gpu.rows import MemoryRow, emit
from bench.memory.cases import find_case
from bench.memory.job import run_case


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("case")
    parser.add_argument("--device", required=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as workdir:
        for measurement in run_case(args.case, args.base, torch.device(args.device), Path(workdir)):
            emit(MemoryRow(base=args.base.name, job=find_case(args.case).title, measurement=measurement))


if __name__ == "__main__":
    main()
