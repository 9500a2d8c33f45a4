"""Writes a base with random weights, or traces its memory.

    python -m bench.gpu.bases FOLDER FAMILY --device cuda --shapes true
    python -m bench.gpu.bases FOLDER --trace

The weights are drawn on the device; a CPU takes minutes for SDXL's. Tracing takes a core and no device.
"""

import argparse
from pathlib import Path

from core.model_folders import read_card
from tests.fixtures.true_bases import write_true_base
from worker.engine.bases.inspection import write_card
from worker.engine.memory.tracing import add_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("family", choices=["sd1", "sdxl"], nargs="?", default="sd1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shapes", choices=["true", "small"], default="true")
    parser.add_argument("--trace", action="store_true", help="of a base that is there")
    args = parser.parse_args()
    if args.trace:
        write_card(args.folder, add_memory(read_card(args.folder), args.folder))
    else:
        write_true_base(args.folder, args.family, device=args.device, shapes=args.shapes)


if __name__ == "__main__":
    main()
