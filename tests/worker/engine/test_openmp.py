"""Threads sleep at barriers while other processes want the cores, and what they compute does not change."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import subprocess, sys, time
import torch
from worker.engine.openmp import SleepWhenContended

torch.set_num_threads(2)
torch.manual_seed(0)
conv = torch.nn.Conv2d(32, 32, 3, padding=1)
rows = torch.randn(4, 32, 32, 32)

def compute():
    conv.zero_grad()
    (conv(rows) ** 2).mean().backward()
    return conv.weight.grad.clone()

def compute_until(contended):
    end = time.monotonic() + 60
    while control.is_contended != contended and time.monotonic() < end:
        compute()
    return control.is_contended == contended

with SleepWhenContended() as control:
    first = compute()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    became = compute_until(True)
    second = compute()
    for process in busy:
        process.kill()
        process.wait()
    print(became, compute_until(False), torch.equal(first, second), torch.equal(first, compute()))
"""


def run(**variables: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=kept | variables, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.slow  # it needs the cores to itself: else contention does not end
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_contention_is_seen_and_over_and_changes_no_byte() -> None:
    assert run() == ["True", "True", "True", "True"]


def test_a_users_own_choice_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    from worker.engine.openmp import SleepWhenContended

    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    with SleepWhenContended() as control:
        assert control._thread is None
