"""Each kind of adapter of each family, back in diffusers and by the rules of the other tools."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from core.domain.artifacts import AdapterFormat
from core.domain.dataset import DatasetManifest
from core.domain.model import Family
from core.domain.plan import InitAdapter, TrainPlan
from core.domain.proof import LoadProof
from tests.fixtures.bases import make_plan, write_pictures, write_random_base
from tests.fixtures.bench import CPU, prove, sha256
from worker.engine.adapter_files.proof.adapters import read_adapter
from worker.engine.adapter_files.proof.layers import read_layers
from worker.engine.adapters import unchanged
from worker.engine.device import Runtime, choose_runtime
from worker.engine.errors import BadInput
from worker.engine.families import load_base
from worker.engine.families.protocol import Base
from worker.engine.observer import RecordingObserver
from worker.engine.training.output import TrainResult
from worker.engine.training.train import train

Pictures = tuple[DatasetManifest, dict[str, Path]]
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"adapter": {"type": "lora", "alpha": 10}},
    "lora, all": {"adapter": {"type": "lora", "targets": "all", "rslora": True}},
    "locon": {"adapter": {"type": "locon", "targets": "all", "alpha": 2}},
    "dora": {"adapter": {"type": "dora", "targets": "all"}},
    "text encoder": {"adapter": {"type": "lora", "alpha": 10}, "text_encoder": {"train": True, "rank": 2}},
    "half precision": {"adapter": {"type": "lora", "alpha": 10}, "precision": "bf16"},
    "dora, text encoder": {"adapter": {"type": "dora"}, "text_encoder": {"train": True}},
}
FAMILIES = ("sd1", pytest.param("sd2", marks=pytest.mark.slow), "sdxl")
"""SD 2's parts are SD 1's, with the linear projections of SDXL."""


class House:
    """A random base of a family, and trainings on it that move weights far from zero."""

    def __init__(self, family: Family, folder: Path, pictures: Pictures) -> None:
        self.family, self.folder = family, folder
        self.info = write_random_base(folder, family=family)
        self.manifest, self.files = pictures

    def plan(self, **spec: Any) -> TrainPlan:
        init = spec.pop("init", None)
        given = {"steps": 3, "samples": {"prompts": []}, "optimizer": {"learning_rate": 0.02}, **spec}
        plan = make_plan(self.manifest, self.info, **given)
        return plan if init is None else plan.model_copy(update={"init_adapter": init})

    def load(self, plan: TrainPlan) -> tuple[Runtime, Base]:
        runtime = choose_runtime(plan, CPU, self.info, 1)
        return runtime, load_base(self.family, self.folder, CPU, runtime.dtype)

    def prove(self, plan: TrainPlan, workdir: Path) -> dict[AdapterFormat, LoadProof]:
        runtime, base = self.load(plan)
        with unchanged(base):
            result = train(plan, runtime, base, self.files, RecordingObserver(), workdir)
        return prove(base, plan, result)

    def train(self, plan: TrainPlan, workdir: Path, more: dict[str, Path] | None = None) -> TrainResult:
        runtime, base = self.load(plan)
        return train(plan, runtime, base, {**self.files, **(more or {})}, RecordingObserver(), workdir)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return write_pictures(tmp_path_factory.mktemp("pictures"), [(64, 64)] * 3)


@pytest.fixture(scope="module", params=FAMILIES)
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pictures: Pictures) -> House:
    return House(request.param, tmp_path_factory.mktemp("models") / request.param, pictures)


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS)
def test_both_files_load_whole(house: House, tmp_path: Path, spec: dict[str, Any]) -> None:
    plan = house.plan(**{"precision": "fp32", **spec})
    proofs = house.prove(plan, tmp_path)
    for name, proof in proofs.items():
        assert proof.holds, (name, [(tool.tool, tool.dropped, tool.notes) for tool in proof.tools if tool.required])
        assert [tool.num_resolved for tool in proof.tools if tool.required] == [
            tool.num_keys for tool in proof.tools if tool.required
        ]
    for name, proof in proofs.items():
        (diffusers,) = [tool for tool in proof.tools if tool.tool == "diffusers"]
        assert diffusers.measured is not None
        if plan.adapter_type == "dora" and name == "kohya":
            assert diffusers.measured.num_same == 0 and not diffusers.required
        else:
            assert diffusers.measured.num_same == diffusers.measured.num_layers


@pytest.mark.parametrize("kind", ["locon", "text encoder"])
def test_both_files_draw_the_same_in_a_pipeline(house: House, tmp_path: Path, kind: str) -> None:
    """What the proof says of updates, seen in images: with either file another one than without, and the same one."""
    files = house.train(house.plan(precision="fp32", **KINDS[kind]), tmp_path).files
    pipeline = DiffusionPipeline.from_pretrained(house.folder, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    images = [draw_with(pipeline, path) for path in (None, files["kohya"], files["diffusers"])]
    assert np.abs(images[1] - images[2]).max() <= 2
    assert np.abs(images[1] - images[0]).max() > 20


def draw_with(pipeline: Any, adapter: Path | None) -> np.ndarray:
    if adapter is not None:
        pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
    rng = torch.Generator().manual_seed(0)
    (image,) = pipeline("zap left", num_inference_steps=4, height=64, width=64, generator=rng).images
    pipeline.unload_lora_weights()
    return np.asarray(image, np.int16)


@pytest.mark.parametrize("kind", ["locon", "dora", "text encoder"])
def test_a_file_that_is_trained_on_from_gives_what_it_gave(house: House, tmp_path: Path, kind: str) -> None:
    """After no real step, with a higher rank and another alpha, the update is still that of the first file."""
    first = house.train(house.plan(precision="fp32", **KINDS[kind]), tmp_path / "first")
    source = first.files["diffusers" if kind == "dora" else "kohya"]
    init = InitAdapter(id="ad_x", key="k", sha256=sha256(source))
    text = KINDS[kind].get("text_encoder")
    spec = {
        "adapter": {**KINDS[kind]["adapter"], "rank": 6, "alpha": 3},
        "text_encoder": {**text, "rank": 6} if text else None,
        "steps": 1,
        "optimizer": {"learning_rate": 1e-12},
    }
    second = house.train(house.plan(precision="fp32", init=init, **spec), tmp_path / "next", {init.sha256: source})
    layers = read_layers(house.family, house.folder)
    for was, now in zip(read_adapter(source, layers), read_adapter(second.files["diffusers"], layers), strict=True):
        assert was.layer == now.layer
        for a, b in ((update(was), update(now)), (was.magnitude, now.magnitude)):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                torch.testing.assert_close(a.float(), b.float(), atol=2e-3, rtol=1e-2)


def update(module: Any) -> torch.Tensor:
    down, up = module.down.float().flatten(1), module.up.float().flatten(1)
    changed: torch.Tensor = module.alpha / len(down) * up @ down
    return changed


def test_an_adapter_that_the_plan_has_no_room_for_is_refused(house: House, tmp_path: Path) -> None:
    source = house.train(house.plan(**KINDS["locon"]), tmp_path / "first").files["kohya"]
    init = InitAdapter(id="ad_x", key="k", sha256=sha256(source))
    for spec, reason in (
        ({"adapter": {"type": "lora"}}, "adapter.type"),
        ({"adapter": {"type": "locon", "targets": "all", "rank": 2}}, "rank 4"),
    ):
        with pytest.raises(BadInput, match=reason):
            house.train(house.plan(init=init, **spec), tmp_path / reason, {init.sha256: source})
