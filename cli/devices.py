"""Which device each train worker gets, found out without importing torch."""

import subprocess
from collections.abc import Mapping

from cli.errors import UsageError


def count_gpus() -> int:
    """The GPUs that NVIDIA's driver lists; 0 without a driver, or when it does not answer in 10 s."""
    try:
        output = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in output.splitlines())


def choose_devices(num_workers: int, environ: Mapping[str, str]) -> list[str]:
    """One device per slot: ATELIER_DEVICE for all where it is set, else a GPU each, else the CPU.

    Raises UsageError when there are fewer GPUs than workers.
    """
    if device := environ.get("ATELIER_DEVICE"):
        return [device] * num_workers
    num_gpus = count_gpus()
    if num_gpus == 0:
        return ["cpu"] * num_workers
    if num_workers > num_gpus:
        raise UsageError(f"--train-workers {num_workers} on {num_gpus} GPU(s): a GPU takes one worker.")
    return [f"cuda:{slot}" for slot in range(num_workers)]


def slot_of(device: str) -> int:
    """The slot a worker of this device takes where none is named: the GPU's number; 0 for a CPU."""
    return int(device.partition(":")[2] or 0)
