"""Runs a command in a folder and writes the most memory that it took, in bytes, into a file.

    python -m bench.speed.process FILE FOLDER COMMAND ...

It is a small process between the bench and another trainer, for Linux counts the memory of the process that started a
program to the program's own peak (getrusage(2), ru_maxrss).
"""

import os
import resource
import subprocess
import sys
from pathlib import Path


def main() -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    made = subprocess.run(sys.argv[3:], cwd=sys.argv[2], env=env)
    Path(sys.argv[1]).write_text(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024))
    sys.exit(made.returncode)


if __name__ == "__main__":
    main()
