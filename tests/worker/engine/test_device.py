"""What a device's numerics are chosen by."""

from pathlib import Path

import pytest
import torch

from core.domain.dataset import DatasetManifest
from core.domain.model import ModelInfo
from core.model_folders import BUNDLED, read_card
from tests.fixtures.bases import make_plan
from worker.engine import device as device_module
from worker.engine.device import Runtime, choose_runtime, warn_of_emulation

DEVICES = {
    "a CPU with bf16": ("cpu", True, "bf16", ["fp16"]),
    "a CPU without": ("cpu", False, "fp32", ["bf16", "fp16"]),
    "a GPU with bf16": ("cuda", True, "bf16", []),
    "a GPU without": ("cuda", False, "fp16", ["bf16"]),
}


@pytest.mark.parametrize(("kind", "has_bf16", "chosen", "emulated"), DEVICES.values(), ids=DEVICES)
def test_auto_takes_what_the_device_has_and_the_rest_is_warned_of(
    random_base: tuple[Path, ModelInfo],
    pictures: tuple[DatasetManifest, dict[str, Path]],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    has_bf16: bool,
    chosen: str,
    emulated: list[str],
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16 or including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU")
    device, warned = torch.device(kind), []
    for precision in ("auto", "bf16", "fp16", "fp32"):
        plan = make_plan(pictures[0], random_base[1], precision=precision)
        runtime = choose_runtime(plan, device, random_base[1], 1)
        assert runtime.precision == (chosen if precision == "auto" else precision)
        warning = warn_of_emulation(runtime, device)
        if warning is not None:
            assert runtime.device_name in warning
            warned.append(precision)
    assert warned == emulated


@pytest.mark.parametrize(
    ("memory", "expected"),
    [(64 * 10**9, (False, None)), (1_500_000_000, (True, None)), (10**9, (True, 4))],
)
def test_checkpointing_and_passes_are_chosen_by_the_devices_memory(
    pictures: tuple[DatasetManifest, dict[str, Path]],
    monkeypatch: pytest.MonkeyPatch,
    memory: int,
    expected: tuple[bool, int | None],
) -> None:
    """On the bundled base, whose card has a table; the same each time. Passes of fewer than four samples would save
    nothing: samples then take most."""
    model = read_card(BUNDLED / "tiny")
    plan = make_plan(pictures[0], model, batch_size=4, precision="fp32", resolution=64)
    monkeypatch.setattr(device_module, "total_memory_bytes", lambda _: memory)
    chosen = [choose_runtime(plan, torch.device("cpu"), model, 1) for _ in range(2)]
    assert chosen[0] == chosen[1] == Runtime.model_validate_json(chosen[0].model_dump_json())
    assert (chosen[0].gradient_checkpointing, chosen[0].samples_per_pass) == expected
