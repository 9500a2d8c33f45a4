"""The workers' own Celery application with tasks that tell tests what goes on inside."""

import os
import sys
import threading
import time
from pathlib import Path

from worker import lifetime
from worker.celery_app import app
from worker.idle import IdleWatch

IdleWatch.idle_seconds = float(os.environ.get("PROBE_IDLE_SECONDS", IdleWatch.idle_seconds))
IdleWatch.check_seconds = 0.2

drained = threading.Event()
lifetime.install_shutdown_hooks(on_drain=drained.set)


@app.task(name="probe.wait_for_drain")
def wait_for_drain(path: str) -> None:
    """Leaves its process id, and later whether it was asked to end."""
    Path(path).write_text(str(os.getpid()))
    was_drained = drained.wait(50)
    Path(f"{path}.drained").write_text(str(was_drained))


@app.task(name="probe.note")
def note(path: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{time.time()} torch={'torch' in sys.modules}\n")


@app.task(name="probe.hold")
def hold(path: str) -> None:
    """Busy until the file is gone."""
    while Path(path).exists():
        time.sleep(0.02)
