"""Adapters of sampling steps, and images that are requested between steps: neither changes a byte of the training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.fixtures.bench import Bench, fingerprint, sha256
from worker.engine.families.latent_diffusion import LatentDiffusion
from worker.engine.observer import RecordingObserver, SampleRequest, Stop, Stopped

BASIC: dict[str, Any] = {"steps": 6, "checkpoints": {"every": 3}, "samples": {"every": 2, "prompts": ["zap"]}}
KINDS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "bf16": {"precision": "bf16"},
    "average, dropout": {"adapter": {"ema": 0.9, "dropout": 0.3}},
    "text encoder": {"text_encoder": {"train": True}},
    "held out": {"validation": {"fraction": 0.3, "every": 2}},
}
REQUESTS = {
    1: SampleRequest("smp_1", ("a zap", "another, never seen before"), 7),
    4: SampleRequest("smp_2", ("zap",), 0),
}


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS)
def test_requested_samples_change_no_byte(bench: Bench, tmp_path: Path, spec: dict[str, Any]) -> None:
    plan = bench.plan(**BASIC, **spec)
    alone, asked = RecordingObserver(), RecordingObserver(requests=dict(REQUESTS))
    undisturbed = bench.run(tmp_path / "alone", plan, alone)
    disturbed = bench.run(tmp_path / "asked", plan, asked)
    assert [(name, step, len(images)) for name, step, images in asked.requested] == [("smp_1", 1, 2), ("smp_2", 4, 1)]
    assert all_bytes(disturbed, asked) == all_bytes(undisturbed, alone)


def test_requested_samples_around_a_kill_change_no_byte(bench: Bench, tmp_path: Path) -> None:
    """The first run is dropped at step 5, after two requests; the second goes on from step 3, and is asked again."""
    plan = bench.plan(**BASIC)
    alone = RecordingObserver()
    undisturbed = bench.run(tmp_path / "alone", plan, alone)
    killed = DroppedAtStep5(requests=dict(REQUESTS), stop=Stop.DROP)
    with pytest.raises(Stopped):
        bench.run(tmp_path / "killed", plan, killed)
    rest = RecordingObserver(requests={5: REQUESTS[1]})
    result = bench.run(tmp_path / "rest", plan, rest, killed.checkpoints[-1][1])
    assert [step for _, step, _ in rest.requested] == [5]
    rest.grids = [*killed.grids[:2], *rest.grids[1:]]
    rest.adapters = [*killed.adapters[:1], *rest.adapters]
    rest.checkpoints = [*killed.checkpoints, *rest.checkpoints]
    assert all_bytes(result, rest) == all_bytes(undisturbed, alone)


class DroppedAtStep5(RecordingObserver):
    def should_stop(self) -> Stop | None:
        return self.stop if len(self.steps) >= 5 else None


def all_bytes(result: Any, observer: RecordingObserver) -> dict[str, str]:
    kept = {f"{step} {name}": sha256(path) for step, files in observer.adapters for name, path in files.items()}
    return fingerprint(result, observer) | kept | {f"at {step}": sha256(path) for step, path in observer.checkpoints}


def test_a_requested_image_is_the_sample_of_its_step(bench: Bench, tmp_path: Path) -> None:
    """The same prompt and seed give the same image, also of a text that is encoded for the request alone."""
    plan = bench.plan(steps=2, samples={"every": 1, "prompts": ["zap"], "seed": 3})
    other = bench.plan(steps=2, samples={"every": 1, "prompts": ["a lamp"], "seed": 3})
    sampled, asked = RecordingObserver(), RecordingObserver(requests={1: SampleRequest("smp_1", ("zap",), 3)})
    bench.run(tmp_path / "sampled", plan, sampled)
    bench.run(tmp_path / "asked", other, asked)
    [(_, step, [requested])] = asked.requested
    [drawn] = next(images for at, images, _ in sampled.grids if at == step)
    with Image.open(requested.path) as ours, Image.open(drawn.path) as theirs:
        assert ours.tobytes() == theirs.tobytes()


def test_every_sampling_steps_adapter_is_kept(bench: Bench, tmp_path: Path) -> None:
    observer = RecordingObserver()
    result = bench.run(tmp_path, bench.plan(**BASIC), observer)
    assert [step for step, _ in observer.adapters] == [2, 4, 6]
    tensors = [load_file(files["kohya"]) for _, files in observer.adapters]
    assert any(not torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    promoted = load_file(result.files["kohya"])
    assert result.outcome.step == 6
    assert all(torch.equal(promoted[key], tensors[2][key]) for key in promoted)


def test_an_earlier_steps_adapter_is_the_one_of_a_run_that_ends_there(bench: Bench, tmp_path: Path) -> None:
    spec = {**BASIC, "schedule": {"name": "constant", "warmup_steps": 0}}
    whole = RecordingObserver()
    bench.run(tmp_path / "whole", bench.plan(**spec), whole)
    short = bench.run(tmp_path / "short", bench.plan(**{**spec, "steps": 4}))
    ours, theirs = load_file(dict(whole.adapters)[4]["kohya"]), load_file(short.files["kohya"])
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize(("kept", "steps"), [("last", [2, 4, 6]), ("best", [])])
def test_the_spec_says_which_are_kept(bench: Bench, tmp_path: Path, kept: str, steps: list[int]) -> None:
    """Of the last alone, the service forgets those before it."""
    observer = RecordingObserver()
    plan = bench.plan(**{**BASIC, "checkpoints": {"every": 3, "adapters": kept}})
    bench.run(tmp_path, plan, observer)
    assert [step for step, _ in observer.adapters] == steps


def test_a_request_that_does_not_fit_into_memory_fails_alone(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, alone = bench.plan(**BASIC), RecordingObserver()
    undisturbed = bench.run(tmp_path / "alone", plan, alone)
    observer = RecordingObserver(requests={3: SampleRequest("smp_1", ("a zap",), 0)})
    decode = LatentDiffusion.decode

    def fail_once(base: LatentDiffusion, latents_BCHW: torch.Tensor) -> list[Image.Image]:
        if len(observer.steps) == 3 and not observer.failed_requests:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(base, latents_BCHW)

    monkeypatch.setattr(LatentDiffusion, "decode", fail_once)
    result = bench.run(tmp_path / "asked", plan, observer)
    assert [name for name, _ in observer.failed_requests] == ["smp_1"] and not observer.requested
    assert all_bytes(result, observer) == all_bytes(undisturbed, alone)
