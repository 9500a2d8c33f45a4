"""Generations between the steps of a training: their images are those of the base alone, and the training's bytes are
those of a training alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.domain.artifacts import Artifact
from core.domain.generation import GenerationPlan, GenerationSpec, StackedAdapter, resolve_generation
from core.domain.states import TerminationReason
from tests.fixtures.bench import Bench, fingerprint, sha256
from worker.device.wire import Failed, Generate, Generated, ImageDrawn, Message, TrainingStopped
from worker.engine.families.protocol import Base
from worker.engine.generation.generate import generate
from worker.engine.lane import GenerationLane
from worker.engine.observer import Lend, RecordingObserver, Stop

KINDS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32", "adapter": {"dropout": 0.3}},
    "bf16, locon": {"precision": "bf16", "adapter": {"type": "locon"}},
    "dora, text encoder": {"adapter": {"type": "dora", "targets": "all"}, "text_encoder": {"train": True}},
    "average, checkpointing": {"adapter": {"ema": 0.9}, "gradient_checkpointing": True},
    "prodigy": {"optimizer": {"name": "prodigy"}},
}


class Waiting:
    """The commands that a trainer has received."""

    def __init__(self, *commands: Generate) -> None:
        self.commands = list(commands)
        self.stops: dict[str, Stop] = {}

    def find_generation(self, model_sha256: str) -> Generate | None:
        return next((one for one in self.commands if one.plan.model_sha256 == model_sha256), None)

    def take(self, run_id: str) -> None:
        self.commands = [one for one in self.commands if one.run_id != run_id]

    def find_stop(self, run_id: str) -> Stop | None:
        return self.stops.get(run_id)

    def forget(self, run_id: str) -> None:
        pass


@pytest.fixture
def adapter(bench: Bench, tmp_path: Path) -> Path:
    """One that was trained before, on attention and text."""
    spec = {
        "steps": 2,
        "samples": {"prompts": []},
        "optimizer": {"learning_rate": 0.05},
        "text_encoder": {"train": True},
    }
    return bench.run(tmp_path / "first", bench.plan(**spec), RecordingObserver()).files["diffusers"]


def make_command(bench: Bench, adapter: Path, folder: Path, **spec: object) -> Generate:
    file = Artifact(key="k", sha256=sha256(adapter), size=1)
    stack = (StackedAdapter(id="ad_1", name="one", weight=0.8, file=file),)
    asked = GenerationSpec.model_validate({"model": "m", "prompts": ["zap", "a cat"], "num_steps": 2, **spec})
    plan: GenerationPlan = resolve_generation(asked, bench.info, stack)
    return Generate(
        run_id="gen/1", plan=plan, model_folder=bench.folder, model=bench.info, cpu_threads=1,
        files={file.sha256: adapter}, folder=folder,
    )  # fmt: skip


def open_lane(
    bench: Bench, waiting: Waiting, plan: Any, sent: list[Message], base: Base | None = None, **needs: Any
) -> GenerationLane:
    runtime = bench.runtime(plan)
    return GenerationLane(
        waiting, sent.append, base or bench.load(runtime), bench.info.sha256, runtime,
        is_needed=needs.get("is_needed", lambda: False), alive=lambda: None, fits=needs.get("fits", lambda _: True),
    )  # fmt: skip


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS)
def test_neither_changes_the_other(bench: Bench, adapter: Path, tmp_path: Path, spec: dict[str, Any]) -> None:
    plan = bench.plan(**{"steps": 6, "checkpoints": {"every": 2}, "samples": {"every": 3, "prompts": ["zap"]}, **spec})
    alone = RecordingObserver()
    undisturbed = bench.run(tmp_path / "alone", plan, alone)
    command = make_command(bench, adapter, tmp_path / "between", num_images=3)
    sent: list[Message] = []
    observer, base = RecordingObserver(), bench.load(bench.runtime(plan))
    lane = open_lane(bench, Waiting(command), plan, sent, base)

    def draw(lend: Lend) -> None:
        lane._rests_until = 0.0  # the training is over too soon to have its share
        lane.draw(lend)

    observer.borrow = draw
    disturbed = bench.run(tmp_path / "disturbed", plan, observer, base=base)
    assert fingerprint(disturbed, observer) == fingerprint(undisturbed, alone)
    assert [type(one) for one in sent] == [ImageDrawn] * 6 + [Generated]
    whole = generate(command.plan, bench.runtime(plan), base, command.files, RecordingObserver(), tmp_path / "whole")
    for image, expected in zip(sent[:-1], whole, strict=True):
        assert isinstance(image, ImageDrawn) and image.index == expected.index
        assert image.path.read_bytes() == expected.path.read_bytes()


def test_a_training_that_is_needed_comes_first(bench: Bench, adapter: Path, tmp_path: Path) -> None:
    """In the middle of a pass too; the same images come when it is free again."""
    command, sent = make_command(bench, adapter, tmp_path / "images"), list[Message]()
    asked = iter([False, False, True, False, False, False, False])
    lane = open_lane(bench, Waiting(command), bench.plan(), sent, is_needed=lambda: next(asked))
    lane.draw(lend_nothing)
    assert sent == []
    lane.draw(lend_nothing)
    assert [type(one) for one in sent] == [ImageDrawn, ImageDrawn, Generated]


def test_the_training_has_as_much_time_as_a_pass_takes(bench: Bench, adapter: Path, tmp_path: Path) -> None:
    command, sent = make_command(bench, adapter, tmp_path / "images", num_images=3), list[Message]()
    lane = open_lane(bench, Waiting(command), bench.plan(), sent)
    lane.draw(lend_nothing)
    first = len(sent)
    lane.draw(lend_nothing)
    assert len(sent) == first == 4
    lane._rests_until = 0.0
    lane.draw(lend_nothing)
    assert len(sent) == 7


def test_one_that_does_not_fit_waits(bench: Bench, adapter: Path, tmp_path: Path) -> None:
    waiting, sent = Waiting(make_command(bench, adapter, tmp_path / "images")), list[Message]()
    open_lane(bench, waiting, bench.plan(), sent, fits=lambda _: False).draw(lend_nothing)
    assert sent == [] and len(waiting.commands) == 1


def test_a_generation_ends_for_itself(bench: Bench, adapter: Path, tmp_path: Path) -> None:
    """By a cancel, and by an adapter that cannot be read: the training hears nothing of it."""
    command, sent = make_command(bench, adapter, tmp_path / "images"), list[Message]()
    waiting = Waiting(command)
    waiting.stops["gen/1"] = Stop.DROP
    lane = open_lane(bench, waiting, bench.plan(), sent)
    lane.draw(lend_nothing)
    assert sent == [TrainingStopped(run_id="gen/1")] and waiting.commands == []
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing")
    waiting.commands = [command.model_copy(update={"files": dict.fromkeys(command.files, broken)})]
    waiting.stops.clear()
    lane.draw(lend_nothing)
    failed = sent[-1]
    assert isinstance(failed, Failed) and failed.reason is TerminationReason.BAD_INPUT and waiting.commands == []


def test_what_fails_in_it_is_no_fault_of_the_training(
    bench: Bench, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("an unusual error")

    monkeypatch.setattr("worker.engine.generation.generate.describe", fail)
    waiting, sent = Waiting(make_command(bench, adapter, tmp_path / "images")), list[Message]()
    observer, plan = RecordingObserver(), bench.plan(steps=3, samples={"prompts": []})
    base = bench.load(bench.runtime(plan))
    observer.borrow = open_lane(bench, waiting, plan, sent, base).draw
    bench.run(tmp_path / "run", plan, observer, base=base)
    (failed,) = sent
    assert isinstance(failed, Failed) and failed.reason is TerminationReason.INFRASTRUCTURE
    assert "an unusual error" in failed.detail


def test_generations_on_other_bases_wait(bench: Bench, adapter: Path, tmp_path: Path) -> None:
    command, sent = make_command(bench, adapter, tmp_path / "images"), list[Message]()
    other = command.model_copy(update={"plan": command.plan.model_copy(update={"model_sha256": "f" * 64})})
    open_lane(bench, Waiting(other), bench.plan(), sent).draw(lend_nothing)
    assert sent == []


@contextmanager
def lend_nothing() -> Iterator[None]:
    yield
