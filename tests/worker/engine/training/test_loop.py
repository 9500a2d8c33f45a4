"""The loop: what it learns, what it leaves alone, and that a stop changes nothing."""

import base64
import gc
import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import CLIPTextModel

from core.domain.dataset import DatasetManifest
from core.domain.model import Family
from core.domain.plan import TrainPlan
from core.domain.states import Phase
from tests.fixtures.bases import write_random_base
from tests.fixtures.bench import Bench, fingerprint, prove, sha256
from worker.engine.adapters import unchanged
from worker.engine.device import is_out_of_memory, reduce_memory
from worker.engine.errors import BadInput, BaseChanged, NanLoss
from worker.engine.families import load_base
from worker.engine.families.protocol import Base
from worker.engine.observer import RecordingObserver, StepReport, Stop, Stopped
from worker.engine.training.state import State
from worker.engine.training.train import train

CPU = torch.device("cpu")


def test_a_run_passes_its_phases_and_leaves_its_files(bench: Bench, tmp_path: Path) -> None:
    observer = RecordingObserver()
    plan = bench.plan(steps=6, checkpoints={"every": 3}, samples={"every": 3})
    result = bench.run(tmp_path, plan, observer)
    assert list(dict.fromkeys(observer.phases)) == [Phase.CACHING, Phase.SAMPLING, Phase.TRAINING, Phase.EXPORTING]
    assert [report.step for report in observer.steps] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in observer.checkpoints] == [3, 6]
    assert [step for step, _, _ in observer.grids] == [0, 3, 6]
    assert set(result.files) == {"kohya", "diffusers"}
    assert all(path.stat().st_size > 1000 for path in result.files.values())
    assert result.outcome.num_parameters == 4 * bench.info.adapter_dims["lora/attention"]


def test_training_lowers_the_loss_on_what_it_sees(bench: Bench, tmp_path: Path) -> None:
    observer = RecordingObserver()
    bench.run(tmp_path, bench.plan(steps=100, samples={"prompts": []}, adapter={"type": "locon"}), observer)
    losses = torch.tensor([report.loss for report in observer.steps])
    assert losses[-1] < 0.95 * losses[20]


def test_the_base_is_left_as_it_came(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(steps=2)
    base = bench.load(bench.runtime(plan))
    modules = [name for name, _ in base.denoiser.module.named_modules()]
    with unchanged(base):
        prove(base, plan, bench.run(tmp_path, plan, base=base))
    assert [name for name, _ in base.denoiser.module.named_modules()] == modules
    assert not any(param.requires_grad for param in base.denoiser.module.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_base_that_changed_is_noticed(bench: Bench, dtype: torch.dtype) -> None:
    def swap(weight: torch.Tensor) -> None:
        weight[0], weight[1] = weight[1].clone(), weight[0].clone()

    def move_by_one_bit(weight: torch.Tensor) -> None:
        weight.view(torch.int16)[..., 0] += 1

    base = bench.load(bench.runtime(bench.plan(steps=1)))
    module = base.denoiser.module.to(dtype)
    with unchanged(base), torch.no_grad():
        module.conv_in.bias.add_(0)
    for name in ("conv_in.bias", "time_embedding.linear_1.weight"):
        for change in (torch.Tensor.neg_, move_by_one_bit):
            with pytest.raises(BaseChanged), unchanged(base), torch.no_grad():
                change(module.get_parameter(name))
    with pytest.raises(BaseChanged), unchanged(base), torch.no_grad():
        swap(module.conv_in.bias)


def test_the_encoders_are_gone_before_the_first_step(bench: Bench, tmp_path: Path) -> None:
    alive: list[int] = []

    class Watcher(RecordingObserver):
        def step(self, report: StepReport) -> None:
            alive.append(count_encoders())

    before = count_encoders()  # what other tests of this process have not let go
    bench.run(tmp_path, bench.plan(steps=1), Watcher())
    assert len(alive) == 1 and alive[0] <= before


def count_encoders() -> int:
    """By their own type: asking Celery's proxies for theirs would load its settings."""
    gc.collect()
    return sum(issubclass(type(thing), CLIPTextModel) for thing in gc.get_objects())


def test_a_warm_base_gives_the_bytes_of_a_cold_one(bench: Bench, tmp_path: Path) -> None:
    """bf16, fp32 and bf16 in turn in this one process: accelerate's state must not leak between jobs."""
    warm: dict[str, Base] = {}
    for turn, precision in enumerate(["bf16", "fp32", "bf16"]):
        plan = bench.plan(steps=2, precision=precision, seed=turn, samples={"prompts": ["zap left"]})
        base = warm.setdefault(precision, bench.load(bench.runtime(plan)))
        hot, cold = RecordingObserver(), RecordingObserver()
        hot_result = bench.run(tmp_path / f"warm{turn}", plan, hot, base=base)
        cold_result = bench.run(tmp_path / f"cold{turn}", plan, cold)
        assert fingerprint(hot_result, hot) == fingerprint(cold_result, cold)


def test_cached_latents_of_an_earlier_attempt_are_used(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(steps=1, samples={"prompts": []}, evaluation="off")
    observer = RecordingObserver(stop=Stop.DROP)
    texts = len({image.caption for image in plan.images}) + 1
    observer.stop_at = texts + 2
    with pytest.raises(Stopped):
        bench.run(tmp_path, plan, observer)
    cached = {path: path.stat().st_ino for path in (tmp_path / "cache").iterdir()}
    assert sorted(path.suffix for path in cached) == [".conditioning"] * texts + [".latents"] * 2
    first = bench.run(tmp_path, plan)
    assert {path: path.stat().st_ino for path in cached} == cached
    assert sha256(first.files["kohya"]) == sha256(bench.run(tmp_path / "fresh", plan).files["kohya"])


def test_a_stop_while_sampling_is_obeyed(bench: Bench, tmp_path: Path) -> None:
    class Impatient(RecordingObserver):
        def should_stop(self) -> Stop | None:
            return Stop.DROP if Phase.SAMPLING in self.phases else None

    with pytest.raises(Stopped):
        bench.run(tmp_path, bench.plan(steps=3), Impatient())


def test_a_picture_that_takes_long_is_no_standstill_and_can_be_stopped(bench: Bench, tmp_path: Path) -> None:
    """Of a grid of one chunk nothing else is heard until it is drawn."""

    class Hurried(RecordingObserver):
        def should_stop(self) -> Stop | None:
            return Stop.DROP if self.heartbeats == 3 else None

    plan = bench.plan(steps=3, samples={"prompts": ["a", "b"], "num_steps": 5})
    hurried = Hurried()
    with pytest.raises(Stopped):
        bench.run(tmp_path / "hurried", plan, hurried)
    assert hurried.phases == [Phase.CACHING, Phase.SAMPLING] and not hurried.grids
    patient = RecordingObserver()
    bench.run(tmp_path / "patient", plan, patient)
    assert patient.heartbeats == 5 * (len(patient.grids) + 1), "every step of every grid, and of the cover"


class StoppedIn(RecordingObserver):
    """Asks for a stop at the second look within a phase."""

    def __init__(self, phase: Phase, after: Phase | None = None) -> None:
        super().__init__(stop=Stop.DROP)
        self._phase, self._after, self._looks = phase, after, 0

    def should_stop(self) -> Stop | None:
        if self.phases[-1:] == [self._phase] and (self._after is None or self._after in self.phases):
            self._looks += 1
        return self.stop if self._looks > 1 else None


STOPS = {
    "caching": (Phase.CACHING, None),
    "the base's samples": (Phase.SAMPLING, None),
    "training": (Phase.TRAINING, None),
    "samples": (Phase.SAMPLING, Phase.TRAINING),
    "scores": (Phase.SCORING, None),
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_a_stop_leaves_no_tensor_but_the_base(bench: Bench, tmp_path: Path, stop: tuple[Phase, Phase | None]) -> None:
    """What a canceled job took of its device is given back: nothing but the warm base is held on to."""
    plan = bench.plan(steps=2, evaluation="on", samples={"prompts": ["a", "b", "c"], "every": 1})
    base = bench.load(bench.runtime(plan))
    bench.run(tmp_path / "warm", plan, base=base)
    before = count_tensor_bytes()
    with pytest.raises(Stopped):
        bench.run(tmp_path / "stopped", plan, StoppedIn(*stop), base=base)
    assert count_tensor_bytes() == before


def count_tensor_bytes() -> int:
    gc.collect()
    tensors = [row for row in gc.get_objects() if isinstance(row, torch.Tensor)]
    return sum({row.untyped_storage().data_ptr(): row.untyped_storage().nbytes() for row in tensors}.values())


def test_a_diverging_run_fails_with_what_to_do(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(steps=50, precision="fp32", samples={"prompts": []}, optimizer={"learning_rate": 1.0})
    plan = plan.model_copy(update={"learning_rate": 1e30, "max_grad_norm": 1e30})
    with pytest.raises(NanLoss, match="not a finite number at step"):
        bench.run(tmp_path, plan)


def test_weights_that_are_no_numbers_are_never_exported(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step's loss was taken before its weights moved."""
    promote = State.promote

    def spoil(state: State) -> int:
        next(iter(state.params.values())).data.fill_(float("nan"))
        return promote(state)

    monkeypatch.setattr(State, "promote", spoil)
    with pytest.raises(NanLoss, match="weights is not a finite number at step 1"):
        bench.run(tmp_path, bench.plan(steps=1, validation={"fraction": 0}, samples={"prompts": []}))


def test_a_missing_picture_is_bad_input(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(steps=1)
    lacking = Bench(bench.folder, bench.info, bench.manifest, {})
    with pytest.raises(BadInput, match="cannot be read"):
        lacking.run(tmp_path, plan)


@pytest.mark.parametrize("damage", ["truncate", "flip", "other plan"])
def test_a_checkpoint_that_does_not_fit_is_refused(bench: Bench, tmp_path: Path, damage: str) -> None:
    plan = bench.plan(steps=2, samples={"prompts": []})
    observer = RecordingObserver()
    bench.run(tmp_path, plan, observer)
    path = observer.checkpoints[-1][1]
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "flip":
        path.write_bytes(b"\xff" * 64 + path.read_bytes()[64:])
    else:
        plan = bench.plan(steps=3, samples={"prompts": []})
    with pytest.raises(BadInput, match="checkpoint"):
        bench.run(tmp_path / "again", plan, resume_from=path)


def test_one_sample_at_a_time_learns_the_same(bench: Bench, tmp_path: Path) -> None:
    """In fp32, to the last digits: sums in another order."""
    prior = {"prior_preservation": {"class_prompt": "a cat", "num_images": 2}}
    plan = bench.plan(steps=3, batch_size=4, precision="fp32", samples={"prompts": []}, loss=prior)
    whole = bench.run(tmp_path / "whole", plan)
    lighter = reduce_memory(bench.runtime(plan), plan_without(plan))
    assert lighter is not None and lighter[0].samples_per_pass == 1 and "one sample" in lighter[1]
    sizes: set[int] = set()
    base = bench.load(lighter[0])
    base.denoiser.module.register_forward_pre_hook(
        lambda _, given: sizes.add(len(given[0])) if torch.is_grad_enabled() else None
    )
    result = train(plan, lighter[0], base, bench.files, RecordingObserver(), tmp_path / "single")
    assert sizes == {1}
    first, second = (load_file(made.files["kohya"]) for made in (whole, result))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name].float(), tensor.float(), rtol=1e-2, atol=1e-4)


def plan_without(plan: TrainPlan) -> TrainPlan:
    """With gradient checkpointing off."""
    return plan.model_copy(update={"gradient_checkpointing": False})


def test_memory_is_saved_once_and_only_where_it_can_be(bench: Bench) -> None:
    plan = bench.plan(steps=1, batch_size=1)
    lighter = reduce_memory(bench.runtime(plan), plan)
    assert lighter is not None and lighter[0].gradient_checkpointing
    assert reduce_memory(lighter[0], plan) is None
    assert reduce_memory(bench.runtime(plan), plan_without(plan)) is None, "nothing is left to try"


def test_class_pictures_are_taken_one_at_a_time_too(bench: Bench) -> None:
    prior = {"class_prompt": "a cat", "num_images": 4, "batch_size": 4}
    plan = plan_without(bench.plan(steps=1, batch_size=1, loss={"prior_preservation": prior}))
    lighter = reduce_memory(bench.runtime(plan), plan)
    assert lighter is not None and lighter[0].samples_per_pass == 1


def test_what_torch_says_on_a_cpu_without_memory_is_understood() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(error.value)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_both_files_carry_the_same_picture_of_what_they_do(bench: Bench, tmp_path: Path) -> None:
    covers = []
    for path in bench.run(tmp_path, bench.plan(steps=1)).files.values():
        with safe_open(path, framework="pt") as file:
            covers.append(file.metadata()["modelspec.thumbnail"])
    with Image.open(io.BytesIO(base64.b64decode(covers[0].removeprefix("data:image/jpeg;base64,")))) as cover:
        assert cover.format == "JPEG" and cover.size == (64, 64)
    assert covers[0] == covers[1]


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="diffusers' layout"):
        load_base("sd1", tmp_path, CPU, torch.float32)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
@pytest.mark.parametrize(("kind", "loss"), [("v_prediction", {"min_snr_gamma": 5}), ("flow", {})])
def test_other_predictions_train_too(
    pictures: tuple[DatasetManifest, dict[str, Path]], tmp_path: Path, kind: str, loss: dict[str, float], family: Family
) -> None:
    folder = tmp_path / "base"
    bench = Bench(folder, write_random_base(folder, kind, family=family), *pictures)
    assert bench.info.prediction_type == kind
    observer = RecordingObserver()
    plan = bench.plan(steps=3, loss=loss)
    base = bench.load(bench.runtime(plan))
    result = bench.run(tmp_path / "work", plan, observer, base=base)
    assert all(proof.holds for proof in prove(base, plan, result).values())
    assert len(observer.steps) == 3
