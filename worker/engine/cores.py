"""How many threads a training or a generation on the CPU gets.

Its threads meet thousands of times in a step. Where another program keeps a core busy, each meeting waits until the
system's scheduler has given every thread its turn: two threads on two cores, one of them busy, took twenty times as
long as one thread (docs/adr/0015-threads-by-free-cores.md).
"""

import os
import time
from pathlib import Path

STAT, CGROUP_QUOTA = Path("/proc/stat"), Path("/sys/fs/cgroup/cpu.max")
SAMPLE_SECONDS = 0.1


def choose_threads(requested: int) -> int:
    """``requested`` if it is not 0; else OMP_NUM_THREADS; else a thread for each core that this process may use and
    that nothing else uses now, at least one."""
    by_openmp = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if requested or by_openmp.isdecimal():
        return requested or max(1, int(by_openmp))
    return max(1, min(count_usable_cores(), round(measure_idle_cores())))


def count_usable_cores() -> int:
    """By this process's affinity and, in a container, its quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CGROUP_QUOTA.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup of version 2, or "max"
        return cores


def measure_idle_cores() -> float:
    """The mean over SAMPLE_SECONDS; all where the system does not say (macOS)."""
    before = _read_idle_seconds()
    if before is None:
        return float(os.cpu_count() or 1)
    started = time.monotonic()
    time.sleep(SAMPLE_SECONDS)
    return ((_read_idle_seconds() or before) - before) / (time.monotonic() - started)


def _read_idle_seconds() -> float | None:
    """Of all cores together, since the machine's start: the fields ``idle`` and ``iowait`` (proc_stat(5))."""
    try:
        fields = STAT.read_text().splitlines()[0].split()
        return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return None
