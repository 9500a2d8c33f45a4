"""Fails for a product file of more than 400 lines, and for a training loop of more than 300.

python -m scripts.check_lengths
"""

import subprocess
import sys
from pathlib import Path

MAX_LINES = 400
PRODUCT = ("app", "cli", "clients", "core", "migrations", "worker")
SHORTER = {"worker/engine/training/loop.py": 300}


def list_too_long() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "--", *PRODUCT], capture_output=True, text=True, check=True).stdout
    files = [name for name in listed.splitlines() if name.endswith(".py") and Path(name).is_file()]
    counts = {name: len(Path(name).read_text().splitlines()) for name in files}
    limits = {name: SHORTER.get(name, MAX_LINES) for name in files}
    return [f"{name}: {counts[name]} lines, at most {limits[name]}" for name in files if counts[name] > limits[name]]


if __name__ == "__main__":
    too_long = list_too_long()
    print("\n".join(too_long))
    sys.exit(bool(too_long))
