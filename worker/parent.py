"""Dying with the parent: none of our processes outlives the one that started it."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int, sig: signal.Signals = signal.SIGKILL) -> None:
    """Asks the kernel for ``sig`` when the parent ends (Linux only; elsewhere a closed pipe has to do).

    ``parent_pid`` comes from the parent itself: if it died before we asked, we end at once.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)
