"""What `atelier doctor` learns of a machine."""

import subprocess
import sys
from pathlib import Path

import torch

from core.domain.model import ModelInfo
from worker.engine.device import choose_precision
from worker.engine.machine import MachineReport


def test_the_program_answers_with_devices_precision_and_speed(random_base: tuple[Path, ModelInfo]) -> None:
    folder, _ = random_base
    command = (sys.executable, "-m", "worker.engine.machine", str(folder / "unet"))
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    report = MachineReport.model_validate_json(done.stdout)
    assert report.torch_version == torch.__version__
    assert [device.device.partition(":")[0] for device in report.devices] == (
        ["cuda"] * torch.cuda.device_count() or ["cpu"]
    )
    for device in report.devices:
        assert device.precision == choose_precision(torch.device(device.device))
        assert 0 < device.seconds_per_image < 60
        assert device.memory_bytes > 2**28
