"""Runs a program of the engine without garbage collection while it imports its libraries: they make a million objects
to be kept, and looking through them meanwhile takes a fifth of the time.

    python -m worker.engine.launch MODULE [ARGUMENT ...]
"""

import gc
import importlib
import sys


def main() -> None:
    gc.disable()
    program = importlib.import_module(sys.argv.pop(1))
    gc.freeze()
    gc.enable()
    program.main()


if __name__ == "__main__":
    main()
