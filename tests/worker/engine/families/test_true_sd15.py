"""SD 1.5 at its true size: a single file of random weights becomes a base, and two steps are trained on the CPU.

It takes some 5 GB of memory and as much disk, and a few minutes.
"""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from core.domain.registration import ModelSource, RegistrationRequest
from tests.fixtures.bases import make_plan, write_pictures, write_tokenizer
from tests.fixtures.single_files import write_single_file
from tests.fixtures.true_bases import NUM_TOKENS, make_true_pipeline
from worker.engine.bases.registration import prepare
from worker.engine.device import choose_runtime
from worker.engine.families import load_base
from worker.engine.observer import RecordingObserver
from worker.engine.training.train import train

PROBE = {"ab": (49_406, 64, 321, 49_407)}


@pytest.mark.slow
def test_two_steps_on_sd15(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_tokenizer(models / "clip", NUM_TOKENS)
    pipeline = make_true_pipeline("sd1", dtype=torch.bfloat16)
    write_single_file(models / "sd15.safetensors", pipeline, "sd1")
    order = RegistrationRequest(model_id="sd15", source=ModelSource(path="sd15.safetensors"), models_path=models)
    made = prepare(order, probe=PROBE, complete=lambda info, _: info)
    assert made.info is not None and made.folder is not None, made.refusal
    assert (made.info.family, made.info.resolution, made.info.num_parameters) == ("sd1", 512, 859_520_964)

    manifest, files = write_pictures(tmp_path / "pictures", [(256, 256)] * 2)
    plan = make_plan(
        manifest,
        made.info,
        steps=2,
        resolution=256,
        precision="auto",  # bf16 without hardware for it takes a CPU an hour
        adapter={"type": "lora", "rank": 4, "targets": "all"},
        samples={"prompts": []},
        evaluation="off",
    )
    runtime = choose_runtime(plan, torch.device("cpu"), made.info, cpu_threads=2)
    base = load_base("sd1", made.folder, torch.device("cpu"), runtime.dtype)
    result = train(plan, runtime, base, files, RecordingObserver(), tmp_path / "work", None)
    with safe_open(result.files["kohya"], "pt") as file:
        assert sum(name.endswith(".lora_down.weight") for name in file.keys()) == 192  # noqa: SIM118
        ups = [file.get_tensor(name) for name in file.keys() if name.endswith(".lora_up.weight")]  # noqa: SIM118
    assert all(up.isfinite().all() for up in ups) and any(up.any() for up in ups)
