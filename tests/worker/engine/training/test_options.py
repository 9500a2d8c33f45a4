"""Every option of TrainingSpec, through real steps: what it changes. An option without effect is a bug, and a new
option without a row here fails the first test."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load_file

from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan
from core.domain.spec import TrainingSpec
from tests.fixtures.bases import make_plan, write_pictures
from worker.engine.device import Runtime, choose_runtime
from worker.engine.families import load_base
from worker.engine.families.protocol import Base
from worker.engine.observer import RecordingObserver
from worker.engine.training.output import TrainResult
from worker.engine.training.train import train

BASELINE: dict[str, Any] = {
    "steps": 4,
    "precision": "fp32",
    "samples": {"prompts": []},
    "captions": {"dropout": 0.0},
    "schedule": {"name": "constant", "warmup_steps": 0},
    "validation": {"fraction": 0},
    "evaluation": "off",
}


class Outcome:
    """What a run left, for a row's check to look at."""

    def __init__(self, plan: TrainPlan, runtime: Runtime, result: TrainResult, seen: RecordingObserver) -> None:
        self.plan, self.runtime, self.result, self.seen = plan, runtime, result, seen
        self.tensors = load_file(result.files["kohya"])


def weights(a: Outcome, b: Outcome) -> bool:
    """The same layers, other weights."""
    return set(a.tensors) == set(b.tensors) and any(
        not torch.equal(a.tensors[key], b.tensors[key]) for key in a.tensors
    )


def layers(a: Outcome, b: Outcome) -> bool:
    return set(a.tensors) != set(b.tensors)


def shapes(a: Outcome, b: Outcome) -> bool:
    return {k: t.shape for k, t in a.tensors.items()} != {k: t.shape for k, t in b.tensors.items()}


def alphas(a: Outcome, b: Outcome) -> bool:
    return any(not torch.equal(a.tensors[key], b.tensors[key]) for key in a.tensors if key.endswith("alpha"))


def steps(a: Outcome, b: Outcome) -> bool:
    return len(a.seen.steps) != len(b.seen.steps)


def rates(a: Outcome, b: Outcome) -> bool:
    return [row.learning_rate for row in a.seen.steps] != [row.learning_rate for row in b.seen.steps]


def grids(a: Outcome, b: Outcome) -> bool:
    return [row[0] for row in a.seen.grids] != [row[0] for row in b.seen.grids]


def pictures(a: Outcome, b: Outcome) -> bool:
    return [p.path.read_bytes() for p in a.seen.grids[-1][1]] != [p.path.read_bytes() for p in b.seen.grids[-1][1]]


def checkpoints(a: Outcome, b: Outcome) -> bool:
    return [step for step, _ in a.seen.checkpoints] != [step for step, _ in b.seen.checkpoints]


def kept_adapters(a: Outcome, b: Outcome) -> bool:
    return [step for step, _ in a.seen.adapters] != [step for step, _ in b.seen.adapters]


def runtimes(a: Outcome, b: Outcome) -> bool:
    return a.runtime != b.runtime


def evaluations(a: Outcome, b: Outcome) -> bool:
    return [step for step, _ in a.seen.validations] != [step for step, _ in b.seen.validations]


def scores(a: Outcome, b: Outcome) -> bool:
    return a.result.outcome.scores.retention is None and b.result.outcome.scores.retention is not None


def plans(a: Outcome, b: Outcome) -> bool:
    return a.plan != b.plan


SHOWN: dict[str, Any] = {"samples": {"prompts": ["a cat"]}}
HELD: dict[str, Any] = {"validation": {"fraction": 0.5, "every": 1}, "steps": 6}
PATIENT: dict[str, Any] = {**HELD["validation"], "early_stopping": {"patience": 2, "min_delta": 0.9}}
PRIOR: dict[str, Any] = {"prior_preservation": {"class_prompt": "a thing", "num_images": 4}}
TEXT: dict[str, Any] = {"text_encoder": {"train": True}}
SHUFFLED: dict[str, Any] = {"captions": {"dropout": 0.0, "shuffle": True}}

Check = Callable[[Outcome, Outcome], bool]
ROWS: list[tuple[str, dict[str, Any], dict[str, Any], Check]] = [
    # option, what else is set in both runs, what is set in the second, what must differ
    ("name", {}, {"name": "other"}, plans),
    ("trigger", {}, {"trigger": "bip"}, weights),
    ("preset", {"steps": None}, {"preset": "quick"}, steps),
    ("adapter.type", {}, {"adapter": {"type": "locon"}}, layers),
    ("adapter.type", {}, {"adapter": {"type": "dora"}}, layers),
    ("adapter.rslora", {}, {"adapter": {"rslora": True}}, alphas),
    ("adapter.dropout", {}, {"adapter": {"dropout": 0.5}}, weights),
    ("adapter.ema", {}, {"adapter": {"ema": 0.9}}, weights),
    ("text_encoder.train", {}, TEXT, layers),
    ("text_encoder.rank", TEXT, {"text_encoder": {"train": True, "rank": 2}}, shapes),
    ("text_encoder.learning_rate", TEXT, {"text_encoder": {"train": True, "learning_rate": 0.1}}, weights),
    ("adapter.rank", {}, {"adapter": {"rank": 2}}, shapes),
    ("adapter.alpha", {}, {"adapter": {"alpha": 1}}, alphas),
    ("adapter.targets", {}, {"adapter": {"targets": "all"}}, layers),
    ("steps", {}, {"steps": 6}, steps),
    ("epochs", {"steps": None}, {"epochs": 1}, steps),
    ("batch_size", {}, {"batch_size": 3}, weights),
    ("gradient_accumulation", {}, {"gradient_accumulation": 2}, weights),
    ("resolution", {}, {"resolution": 96}, weights),
    ("bucketing", {}, {"bucketing": False}, weights),
    ("flip", {}, {"flip": True}, weights),
    ("masks", {}, {"masks": False}, weights),
    ("precision", {}, {"precision": "bf16"}, weights),
    ("gradient_checkpointing", {}, {"gradient_checkpointing": True}, runtimes),
    ("seed", {}, {"seed": 1}, weights),
    ("optimizer.name", {}, {"optimizer": {"name": "adafactor"}}, weights),
    ("optimizer.name", {}, {"optimizer": {"name": "prodigy"}}, weights),
    ("optimizer.name", {}, {"optimizer": {"name": "lion"}}, weights),
    ("optimizer.learning_rate", {}, {"optimizer": {"learning_rate": 1e-2}}, weights),
    ("optimizer.weight_decay", {}, {"optimizer": {"weight_decay": 0.9}}, weights),
    ("optimizer.betas", {}, {"optimizer": {"betas": [0.5, 0.9]}}, weights),
    ("schedule.name", {}, {"schedule": {"name": "cosine", "warmup_steps": 0}}, rates),
    ("schedule.name", {}, {"schedule": {"name": "linear", "warmup_steps": 0}}, rates),
    ("schedule.name", {}, {"schedule": {"name": "polynomial", "warmup_steps": 0}}, rates),
    ("schedule.name", {}, {"schedule": {"name": "cosine_with_restarts", "warmup_steps": 0}}, rates),
    (
        "schedule.num_cycles",
        {"schedule": {"name": "cosine_with_restarts", "warmup_steps": 0}},
        {"schedule": {"name": "cosine_with_restarts", "warmup_steps": 0, "num_cycles": 2}},
        rates,
    ),
    ("schedule.warmup_steps", {}, {"schedule": {"name": "constant", "warmup_steps": 3}}, rates),
    ("loss.type", {}, {"loss": {"type": "huber"}}, weights),
    ("loss.huber_c", {"loss": {"type": "huber"}}, {"loss": {"type": "huber", "huber_c": 1}}, weights),
    ("loss.prior_preservation.num_images", {}, {"loss": PRIOR}, weights),
    (
        "loss.prior_preservation.class_prompt",
        {"loss": PRIOR},
        {"loss": {"prior_preservation": {**PRIOR["prior_preservation"], "class_prompt": "other"}}},
        weights,
    ),
    (
        "loss.prior_preservation.batch_size",
        {"loss": PRIOR},
        {"loss": {"prior_preservation": {**PRIOR["prior_preservation"], "batch_size": 7}}},
        weights,
    ),
    (
        "loss.prior_preservation.weight",
        {"loss": PRIOR},
        {"loss": {"prior_preservation": {**PRIOR["prior_preservation"], "weight": 9}}},
        weights,
    ),
    ("loss.min_snr_gamma", {}, {"loss": {"min_snr_gamma": 1}}, weights),
    ("loss.noise_offset", {}, {"loss": {"noise_offset": 0.2}}, weights),
    ("captions.template", {}, {"captions": {"dropout": 0.0, "template": "a photo of {trigger}"}}, weights),
    ("captions.dropout", {}, {"captions": {"dropout": 0.9}}, weights),
    ("captions.shuffle", {}, SHUFFLED, weights),
    ("captions.keep_tokens", SHUFFLED, {"captions": {**SHUFFLED["captions"], "keep_tokens": 3}}, weights),
    ("captions.max_token_length", {}, {"captions": {"dropout": 0.0, "max_token_length": 75}}, weights),
    ("validation.fraction", {}, {"validation": {"fraction": 0.5}}, evaluations),
    ("validation.every", HELD, {"validation": {"fraction": 0.5, "every": 2}}, evaluations),
    ("validation.early_stopping.patience", HELD, {"validation": PATIENT}, steps),
    (
        "validation.early_stopping.min_delta",
        {**HELD, "validation": PATIENT},
        {"validation": {**PATIENT, "early_stopping": {"patience": 2}}},
        steps,
    ),
    ("evaluation", {}, {"evaluation": "on"}, scores),
    ("checkpoints.every", {}, {"checkpoints": {"every": 1}}, checkpoints),
    ("checkpoints.keep", {}, {"checkpoints": {"keep": 5}}, plans),
    ("checkpoints.adapters", SHOWN, {"checkpoints": {"adapters": "best"}}, kept_adapters),
    ("samples.prompts", {}, SHOWN, grids),
    ("samples.every", SHOWN, {"samples": {**SHOWN["samples"], "every": 1}}, grids),
    ("samples.num_steps", SHOWN, {"samples": {**SHOWN["samples"], "num_steps": 3}}, pictures),
    ("samples.guidance_scale", SHOWN, {"samples": {**SHOWN["samples"], "guidance_scale": 9}}, pictures),
    ("samples.guidance_rescale", SHOWN, {"samples": {**SHOWN["samples"], "guidance_rescale": 1}}, pictures),
    ("samples.guidance_start", SHOWN, {"samples": {**SHOWN["samples"], "guidance_start": 0.5}}, pictures),
    ("samples.guidance_stop", SHOWN, {"samples": {**SHOWN["samples"], "guidance_stop": 0.5}}, pictures),
    ("samples.seed", SHOWN, {"samples": {**SHOWN["samples"], "seed": 4}}, pictures),
    ("max_duration_seconds", {}, {"max_duration_seconds": 99}, plans),
]

ELSEWHERE = {
    "init_adapter",  # test_loading.py, tests/worker/test_init_adapter.py
    "priority",  # orders the queue: tests/core/db
    "webhook",  # tests/worker/webhooks
    "metadata",  # given back as it came: tests/app
}


def list_options(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from list_options(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_option_has_a_row() -> None:
    assert {row[0] for row in ROWS} | ELSEWHERE == set(list_options(TrainingSpec))


@pytest.fixture(scope="module")
def run(
    random_base: tuple[Path, ModelInfo], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[dict[str, Any]], Outcome]]:
    folder, info = random_base
    manifest, files = write_pictures(tmp_path_factory.mktemp("pictures"), [(64, 64)] * 3 + [(96, 64)], masked=2)
    cache = tmp_path_factory.mktemp("cache")
    made: dict[str, Outcome] = {}

    @functools.cache
    def load(dtype: torch.dtype) -> Base:
        return load_base("sd1", folder, torch.device("cpu"), dtype)

    def run(spec: dict[str, Any]) -> Outcome:
        plan = make_plan(manifest, info, **spec)
        runtime = choose_runtime(plan, torch.device("cpu"), info, 1)
        seen = RecordingObserver()
        base = load(runtime.dtype)  # warm, as in a trainer
        result = train(plan, runtime, base, files, seen, tmp_path_factory.mktemp("run"), cache_folder=cache)
        return Outcome(plan, runtime, result, seen)

    def run_once(spec: dict[str, Any]) -> Outcome:
        key = repr(sorted(spec.items(), key=lambda item: item[0]))
        if key not in made:
            made[key] = run(spec)
        return made[key]

    yield run_once
    used = run(BASELINE).tensors
    load.cache_clear()
    fresh = run(BASELINE).tensors
    assert all(torch.equal(used[key], fresh[key]) for key in fresh), "an earlier run left something on the base"


@pytest.mark.parametrize(("both", "second", "differs"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_an_option_changes_what_it_says(
    run: Callable[[dict[str, Any]], Outcome], both: dict[str, Any], second: dict[str, Any], differs: Check
) -> None:
    without = {key: value for key, value in {**BASELINE, **both}.items() if value is not None}
    assert differs(run(without), run({**without, **second}))


def test_gradient_checkpointing_changes_memory_and_not_the_result(run: Callable[[dict[str, Any]], Outcome]) -> None:
    plain, saved = run(BASELINE), run({**BASELINE, "gradient_checkpointing": True})
    for key, tensor in plain.tensors.items():
        torch.testing.assert_close(saved.tensors[key], tensor, atol=1e-4, rtol=1e-2)
