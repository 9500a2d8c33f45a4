"""Draining: this process finishes or gives back its work, and starts nothing more."""

import threading

requested = threading.Event()
"""Set once, when the process is asked to shut down."""


def request_drain() -> None:
    """Safe from any thread and in a signal handler. A running job leaves a checkpoint and goes back to the queue."""
    requested.set()
