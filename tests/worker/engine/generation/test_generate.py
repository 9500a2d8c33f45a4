"""A stack on a warm base predicts what diffusers' own loader and ``set_adapters`` give, and leaves no trace."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from core.domain.artifacts import Artifact
from core.domain.generation import AdapterWeight, GenerationPlan, GenerationSpec, StackedAdapter, resolve_generation
from core.domain.model import Family, ModelInfo
from tests.fixtures.bases import make_plan, write_pictures, write_random_base
from tests.fixtures.bench import CPU, sha256
from worker.engine.adapter_files.proof.adapters import read_adapter
from worker.engine.adapter_files.proof.layers import read_layers
from worker.engine.adapters import sum_weights, unchanged
from worker.engine.device import Runtime, choose_runtime, generation_runtime
from worker.engine.errors import BadInput
from worker.engine.families import load_base
from worker.engine.families.protocol import Base, SizeConditioning, TextLimits
from worker.engine.generation.generate import generate
from worker.engine.generation.sheets import MARGIN
from worker.engine.generation.stack import stacked
from worker.engine.observer import RecordingObserver, Stop, Stopped
from worker.engine.training.train import train

KINDS: dict[str, dict[str, Any]] = {
    "lora": {"adapter": {"type": "lora", "alpha": 10}},
    "rslora": {"adapter": {"type": "lora", "targets": "all", "rslora": True, "rank": 3}},
    "locon": {"adapter": {"type": "locon", "targets": "all", "alpha": 2}},
    "dora": {"adapter": {"type": "dora", "targets": "attention"}},
    "text encoder": {"adapter": {"type": "lora"}, "text_encoder": {"train": True, "rank": 2}},
}


@dataclass(frozen=True)
class Trained:
    folder: Path
    info: ModelInfo
    files: dict[str, Path]

    def load(self) -> Base:
        return load_base(self.info.family, self.folder, CPU, torch.float32)

    def plan(self, *stack: tuple[str, float], **spec: object) -> GenerationPlan:
        adapters = tuple(
            StackedAdapter(id=f"ad_{kind}", name=kind, weight=weight, file=self.describe(kind))
            for kind, weight in stack
        )
        asked = GenerationSpec.model_validate({"model": "m", "prompts": ["zap left"], "num_steps": 2, **spec})
        return resolve_generation(asked, self.info, adapters)

    def describe(self, kind: str) -> Artifact:
        return Artifact(key=kind, sha256=sha256(self.files[kind]), size=1)

    def draw(self, plan: GenerationPlan, folder: Path, base: Base | None = None) -> list[Image.Image]:
        files = {sha256(path): path for path in self.files.values()}
        runtime = fp32(plan)
        drawn = generate(plan, runtime, base or self.load(), files, RecordingObserver(), folder)
        return [Image.open(image.path) for image in drawn]


def fp32(plan: GenerationPlan) -> Runtime:
    return generation_runtime(CPU, 1).model_copy(update={"precision": "fp32"})


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    family: Family = request.param
    folder = tmp_path_factory.mktemp("models")
    info = write_random_base(folder / family, family=family)
    manifest, images = write_pictures(tmp_path_factory.mktemp("images"), [(64, 64)] * 3)
    files = {}
    for kind, spec in KINDS.items():
        rates = {"steps": 3, "samples": {"prompts": []}, "optimizer": {"learning_rate": 0.02}, "precision": "fp32"}
        plan = make_plan(manifest, info, **rates, **spec)
        base = load_base(family, folder / family, CPU, torch.float32)
        runtime = choose_runtime(plan, CPU, info, 1)
        result = train(plan, runtime, base, images, RecordingObserver(), folder / kind)
        files[kind] = result.files["diffusers"]
    return Trained(folder / family, info, files)


STACKS: list[list[tuple[str, float]]] = [
    [("lora", 1.0)],
    [("locon", 0.6)],
    [("dora", 1.0)],
    [("text encoder", 1.2)],
    [("lora", 0.5), ("rslora", 1.5), ("locon", -0.3)],
]


@pytest.mark.parametrize("stack", STACKS, ids=str)
def test_a_stack_predicts_as_diffusers_does(trained: Trained, stack: list[tuple[str, float]]) -> None:
    pipeline = DiffusionPipeline.from_pretrained(trained.folder, dtype=torch.float32, local_files_only=True)
    for number, (kind, _) in enumerate(stack):
        path = trained.files[kind]
        pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name=f"a{number}")
    pipeline.set_adapters([f"a{number}" for number in range(len(stack))], [weight for _, weight in stack])

    base, layers = trained.load(), read_layers(trained.info.family, trained.folder)
    ours = [(read_adapter(trained.files[kind], layers), weight) for kind, weight in stack]
    encoders = base.open_text_encoders(TextLimits())
    plain = encoders.encode(["zap left"])
    with stacked(encoders.networks, ours):
        conditioning = encoders.encode(["zap left"])
    noisy, timesteps = torch.randn(1, 4, 16, 16, generator=torch.manual_seed(3)), torch.tensor([300])
    with torch.no_grad():
        without = predict(base, noisy, timesteps, plain)
        with stacked([base.denoiser], ours):
            predicted = predict(base, noisy, timesteps, conditioning)
        base.denoiser = type(base.denoiser)(pipeline.unet)  # type: ignore[call-arg]
        base.denoiser.module.eval()
        expected = predict(base, noisy, timesteps, conditioning)
    if any(kind == "text encoder" for kind, _ in stack):
        assert not conditioning[0]["states"].equal(plain[0]["states"])
    torch.testing.assert_close(predicted, expected, atol=2e-4, rtol=2e-4)
    assert (predicted - without).abs().max() > 1e-3


def predict(base: Base, noisy: torch.Tensor, timesteps: torch.Tensor, rows: Sequence[Any]) -> torch.Tensor:
    size = base.encode_size_conditioning(SizeConditioning((64, 64), (0, 0), (64, 64)))
    return base.predict(noisy, timesteps, [{**row, **size} for row in rows])


def test_the_base_is_left_as_it_was(trained: Trained, tmp_path: Path) -> None:
    base = trained.load()
    before = sum_weights(base.denoiser)
    with unchanged(base):
        trained.draw(trained.plan(("lora", 1.0), ("dora", 0.5)), tmp_path, base)
    assert sum_weights(base.denoiser) == before
    assert not any(module._forward_hooks for module in base.denoiser.module.modules())


def test_images_are_the_plans_and_say_how_they_were_made(trained: Trained, tmp_path: Path) -> None:
    spec = {"prompts": ["zap left", "a cat"], "num_images": 3, "seed": 7, "negative_prompt": "blue", "width": 96}
    plan = trained.plan(("lora", 0.5), **spec)
    images = trained.draw(plan, tmp_path)
    assert [image.size for image in images] == [(96, 64)] * 6
    text = images[4].text["parameters"]  # type: ignore[attr-defined]
    assert text.startswith("a cat\nNegative prompt: blue\nSteps: 2, ")
    assert "Seed: 8, Size: 96x64" in text and "lora (ad_lora) x 0.5" in text
    again = trained.draw(plan, tmp_path / "again")
    assert [image.tobytes() for image in images] == [image.tobytes() for image in again]
    assert len({image.tobytes() for image in images}) == 6
    [alone] = trained.draw(
        trained.plan(("lora", 0.5), **{**spec, "prompts": ["a cat"], "num_images": 1}), tmp_path / "b"
    )
    assert max(abs(a - b) for a, b in zip(alone.tobytes(), images[3].tobytes(), strict=True)) <= 1


def test_weight_zero_is_the_base(trained: Trained, tmp_path: Path) -> None:
    [without] = trained.draw(trained.plan(), tmp_path / "a")
    [zero] = trained.draw(trained.plan(("locon", 0.0)), tmp_path / "b")
    [full] = trained.draw(trained.plan(("locon", 1.0)), tmp_path / "c")
    assert zero.tobytes() == without.tobytes() != full.tobytes()


def test_a_grids_images_are_those_of_generations_one_by_one(trained: Trained, tmp_path: Path) -> None:
    """And its sheet shows them in their places."""
    asked = GenerationSpec.model_validate(
        {
            "model": "m", "prompts": ["zap left", "a cat"], "num_steps": 2, "negative_prompt": "blurry",
            "adapters": [{"id": "ad_text encoder"}, {"id": "ad_lora"}],
            "grid": {
                "x": {"field": "weight", "values": [0.0, 1.5], "entry": 0},
                "y": {"field": "seed", "values": [3, 4]},
            },
        }
    )  # fmt: skip
    stack = [
        StackedAdapter(id=f"ad_{kind}", name=kind, weight=1.0, file=trained.describe(kind))
        for kind in ("text encoder", "lora")
    ]
    plan = resolve_generation(asked, trained.info, stack)
    files = {sha256(path): path for path in trained.files.values()}
    drawn = [*generate(plan, fp32(plan), trained.load(), files, RecordingObserver(), tmp_path / "grid")]
    assert [(one.index, one.is_sheet) for one in drawn] == [
        *((index, False) for index in range(4)), (0, True), *((index, False) for index in range(4, 8)), (1, True),
    ]  # fmt: skip
    images = [Image.open(one.path) for one in drawn if not one.is_sheet]
    assert len({image.tobytes() for image in images}) == 8
    for place, (prompt, seed, weight) in enumerate(
        (prompt, seed, weight) for prompt in asked.prompts for seed in (3, 4) for weight in (0.0, 1.5)
    ):
        spec = {"prompts": [prompt], "seed": seed, "negative_prompt": "blurry"}
        [alone] = trained.draw(trained.plan(("text encoder", weight), ("lora", 1.0), **spec), tmp_path / f"{place}")
        assert max(abs(a - b) for a, b in zip(alone.tobytes(), images[place].tobytes(), strict=True)) <= 1
        assert f"x {weight:g}" in str(images[place].info["parameters"])
    sheet, side = Image.open(drawn[4].path), images[0].width
    right = sheet.width - MARGIN - side
    corner = (right, sheet.height - MARGIN - side)
    assert sheet.crop((*corner, corner[0] + side, corner[1] + side)).tobytes() == images[3].tobytes()


def test_an_adapter_of_another_base_is_refused(trained: Trained, tmp_path: Path) -> None:
    other = write_random_base(tmp_path / "other", family="sdxl" if trained.info.family == "sd1" else "sd1")
    plan = trained.plan(("lora", 1.0)).model_copy(update={"family": other.family})
    base = load_base(other.family, tmp_path / "other", CPU, torch.float32)
    with pytest.raises(BadInput):
        trained.draw(plan, tmp_path / "x", base)


def test_a_stop_is_heard_within_an_image(trained: Trained, tmp_path: Path) -> None:
    observer = RecordingObserver(stop=Stop.DROP)
    observer.stop_at = 0
    plan = trained.plan()
    with pytest.raises(Stopped):
        list(generate(plan, fp32(plan), trained.load(), {}, observer, tmp_path))


def test_weights_are_bounded() -> None:
    with pytest.raises(ValueError, match="less than or equal to 4"):
        AdapterWeight(id="ad_x", weight=5)
