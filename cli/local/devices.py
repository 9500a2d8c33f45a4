"""Which device each train worker gets, found out without importing torch."""

import os
import subprocess
from collections.abc import Mapping, Sequence

from cli.errors import UsageError
from core.domain.counts import counted


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
        raise UsageError(f"--train-workers {num_workers} on {counted(num_gpus, 'GPU')}: a GPU takes one worker.")
    return [f"cuda:{slot}" for slot in range(num_workers)]


def slot_of(device: str) -> int:
    """The slot a worker of this device takes where none is named: the GPU's number; 0 for a CPU."""
    return int(device.partition(":")[2] or 0)


def share_cores(devices: Sequence[str]) -> dict[str, str]:
    """The environment for CPU workers of which there are several: each has its share of the cores. One alone chooses by
    what else runs (worker/engine/cores.py)."""
    num_workers = sum(device.startswith("cpu") for device in devices)
    return {"ATELIER_CPU_THREADS": str(max(1, count_cores() // num_workers))} if num_workers > 1 else {}


def warn_of_busy_cores(devices: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """What to do where the CPU workers together have more threads than there are cores: each waits for the others'
    turns at every barrier, and all of them become many times slower."""
    num_workers = sum(device.startswith("cpu") for device in devices)
    cores, threads = count_cores(), _count_threads(environ) or 1
    if num_workers * threads <= cores:
        return None
    advice = f"ATELIER_CPU_THREADS={max(1, cores // num_workers)}"
    shown = counted(threads, "thread")
    workers = f"{num_workers} training workers of {shown} each" if num_workers > 1 else shown
    return (
        f"{workers} share {counted(cores, 'core')}, which makes training many times slower. Set {advice}, or start "
        "fewer workers."
    )


def _count_threads(environ: Mapping[str, str]) -> int:
    """0 where none is set, or something that the service will refuse."""
    value = environ.get("ATELIER_CPU_THREADS", "")
    return int(value) if value.isdecimal() else 0


def count_cores() -> int:
    """Those that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1
