"""What is predicted of a plan's memory, and decided by it."""

from typing import Any

import pytest

from core.domain.errors import InvalidSpec
from core.domain.estimate import estimate
from core.domain.generation import GenerationPlan, GenerationSpec, resolve_generation
from core.domain.memory import (
    Setting,
    choose_numerics,
    predict_generation,
    predict_overhead,
    predict_peak,
    predict_phases,
)
from core.domain.memory_choices import check_generation, choose_setting, find_change, fits, list_settings, usable_bytes
from core.domain.memory_table import MemoryTable, Passes, Peak
from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan
from core.domain.plan_checks import check_devices
from core.domain.resolve import resolve
from core.domain.spec import TrainingSpec
from tests.core.domain.test_plan import MODEL, manifest

MB = 10**6
GB = 10**9


def passes(step: int) -> Passes:
    """A step without checkpointing takes as many MB for each sample."""
    return Passes(
        step=Peak(per_sample=step * MB),
        checkpointed_step=Peak(per_sample=step * MB // 4),
        prediction=Peak(per_sample=step * MB // 40),
        decoding=Peak(fixed=10 * MB, per_sample=100 * MB),
    )


TABLE = MemoryTable(
    resolution=64,
    text_encoder_parameters=100 * MB,
    vae_parameters=50 * MB,
    largest_layer=10 * MB,
    passes={"fp32": passes(2000), "cpu16": passes(1000), "cuda16": passes(1200)},
    adapter_factors={"lora/attention": 1.0, "lora/all": 1.2, "locon/all": 1.5, "dora/all": 2.0},
    encoding=Peak(per_sample=200 * MB),
    text_encoding=Peak(per_sample=5 * MB),
    text_step=Peak(fixed=100 * MB, per_sample=20 * MB),
)
DIMS = {
    "lora/attention": 1000,
    "lora/all": 3000,
    "locon/attention": 1500,
    "locon/all": 3000,
    "text_encoder/attention": 500,
}
BASE = MODEL.model_copy(update={"num_parameters": 500 * MB, "memory": TABLE, "adapter_dims": DIMS})
COMMON: dict[str, Any] = {
    "trigger": "zap", "resolution": 64, "batch_size": 2, "precision": "bf16", "evaluation": "off",
    "adapter": {"type": "lora", "targets": "attention", "rank": 4}, "samples": {"prompts": []},
    "validation": {"fraction": 0}, "captions": {"max_token_length": 75},
    "loss": {"prior_preservation": {"num_images": 0}},
}  # fmt: skip


def plan_of(base: ModelInfo = BASE, **spec: Any) -> TrainPlan:
    return resolve(TrainingSpec.model_validate({**COMMON, **spec}), manifest(), base)


def training_of(setting: Setting, **spec: Any) -> int:
    """In MB, without the adapter, which is tiny here."""
    return round((predict_phases(plan_of(**spec), BASE, setting)["training"] - 1000 * MB) / MB)


PLAIN, SAVING = Setting("cpu16", False), Setting("cpu16", True)


@pytest.mark.parametrize(
    ("setting", "spec", "expected"),
    [
        (PLAIN, {}, 2000),
        (SAVING, {}, 500),
        (PLAIN, {"batch_size": 4}, 4000),
        (Setting("cpu16", False, 1), {"batch_size": 4}, 1000),
        (Setting("cuda16", False), {}, 2400),
        (Setting("fp32", False), {}, 4000 + 1000),  # the denoiser's weights too are twice as large
        (PLAIN, {"resolution": 128}, 8000),
        (PLAIN, {"adapter": {"type": "locon", "targets": "all"}}, 3000),
        (PLAIN, {"adapter": {"type": "locon", "targets": "attention"}}, 2500),  # not traced: half way to all layers
        (PLAIN, {"text_encoder": {"train": True}}, 2000 + 400 + 100 + 2 * 20),
        (PLAIN, {"loss": {"prior_preservation": {"class_prompt": "a", "num_images": 9, "batch_size": 3}}}, 3000),
    ],
)
def test_a_step_takes(setting: Setting, spec: dict[str, Any], expected: int) -> None:
    assert training_of(setting, **spec) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(
    ("phase", "spec", "expected"),
    [
        ("encoding texts", {}, 1000 + 400 + 5),
        ("encoding texts", {"captions": {"max_token_length": 225}}, 1000 + 400 + 15),
        ("encoding images", {}, 1000 + 200 + 200),
        ("sampling", {"samples": {"prompts": ["a"]}}, 1000 + 2 * 25),
        ("sampling", {"samples": {"prompts": ["a"] * 9}}, 1000 + 8 * 25),
        ("sampling", {"samples": {"prompts": ["a"] * 9, "guidance_scale": 1}}, 1000 + 4 * 25),
        ("held-out loss", {"validation": {"fraction": 0.5}}, 1000 + 8 * 25),
        ("decoding images", {}, 1000 + 200 + 110),
    ],
)
def test_the_other_phases_take(phase: str, spec: dict[str, Any], expected: int) -> None:
    assert predict_phases(plan_of(**spec), BASE, PLAIN)[phase] / MB == pytest.approx(expected, abs=1)


def test_a_process_on_a_cpu_takes_its_libraries_too() -> None:
    tensors = max(predict_phases(plan_of(), BASE, PLAIN).values())
    assert predict_peak(plan_of(), BASE, "cuda", PLAIN) == tensors
    assert predict_peak(plan_of(), BASE, "cpu", PLAIN) == tensors + predict_overhead(BASE, "cpu") == tensors + 640 * MB


def test_adamw_keeps_two_moments_and_the_rank_enters_linearly() -> None:
    large = BASE.model_copy(update={"adapter_dims": {"lora/attention": MB}})

    def training(**spec: Any) -> int:
        return predict_phases(plan_of(large, **spec), large, Setting("fp32", True))["training"]

    ranks = [training(adapter={"type": "lora", "targets": "attention", "rank": rank}) for rank in (4, 8, 16)]
    assert ranks[1] - ranks[0] == 4 * 12 * MB and ranks[2] - ranks[1] == 8 * 12 * MB
    lion = training(optimizer={"name": "lion"})
    assert ranks[0] - lion == 4 * 4 * MB


CHOICES = [
    ("auto", 4, 10, (False, None)),
    ("auto", 4, 3.5, (True, None)),
    ("auto", 4, 2.7, (True, None)),
    ("auto", 4, 2.2, (True, 2)),
    ("auto", 4, 0.1, (True, 1)),  # the CPU fails or not: nothing takes less
    (False, 4, 5.7, (False, None)),
    (False, 4, 4, (False, 2)),
    (True, 4, 10, (True, None)),
]


@pytest.mark.parametrize(("asked", "batch_size", "usable", "expected"), CHOICES)
def test_the_fastest_setting_that_fits_is_chosen(
    asked: str | bool, batch_size: int, usable: float, expected: tuple[bool, int | None]
) -> None:
    plan = plan_of(gradient_checkpointing=asked, batch_size=batch_size)
    chosen = choose_setting(plan, BASE, "cpu", "cpu16", round(usable * GB))
    assert (chosen.checkpointing, chosen.samples_per_pass) == expected


def test_settings_are_listed_once() -> None:
    listed = list(list_settings(plan_of(batch_size=5), "fp32"))
    assert [(each.checkpointing, each.samples_per_pass) for each in listed] == [
        (False, None), (True, None), (True, 3), (True, 2), (True, 1),
    ]  # fmt: skip


def test_smaller_passes_are_left_where_they_save_nothing() -> None:
    """Drawing class images takes most here."""
    prior = {"prior_preservation": {"class_prompt": "a", "num_images": 8, "batch_size": 1}}
    plan = plan_of(batch_size=1, gradient_checkpointing=True, loss=prior)
    small = BASE.model_copy(update={"memory": TABLE.model_copy(update={"passes": {"cpu16": passes(100)}})})
    assert choose_setting(plan.model_copy(update={"batch_size": 2}), small, "cpu", "cpu16", GB).samples_per_pass is None


def test_part_of_a_device_is_left() -> None:
    assert usable_bytes("cpu", 16 * GB) == 8 * GB
    assert usable_bytes("cuda", 10 * GB) == 8_200_000_000
    assert usable_bytes("cuda", GB // 2) == 0


@pytest.mark.parametrize(
    ("kind", "precision", "numerics"),
    [("cpu", "auto", "cpu16"), ("cuda", "fp16", "cuda16"), ("cuda", "fp32", "fp32"), ("cpu", "bf16", "cpu16")],
)
def test_numerics(kind: Any, precision: str, numerics: str) -> None:
    assert choose_numerics(kind, precision) == numerics


REFUSED = [
    ({"gradient_checkpointing": False, "resolution": 128}, 5.0, "/gradient_checkpointing", "set it to true"),
    ({"precision": "fp32", "resolution": 128}, 3.3, "/precision", "set it to auto"),
    ({"text_encoder": {"train": True}}, 1.6, "/text_encoder/train", "set it to false"),
    ({"resolution": 128, "gradient_checkpointing": True}, 1.7, "/resolution", "lower it to"),
    ({}, 1.1, "/model", "choose a smaller base"),
]


@pytest.mark.parametrize(("spec", "memory", "field", "advice"), REFUSED)
def test_a_plan_that_fits_nowhere_is_refused_with_the_smallest_change(
    spec: dict[str, Any], memory: float, field: str, advice: str
) -> None:
    with pytest.raises(InvalidSpec) as error:
        check_devices(plan_of(**spec), BASE, round(memory * GB), {"cuda"})
    assert list(error.value.errors) == [field] and advice in error.value.detail


def test_the_change_is_enough() -> None:
    plan = plan_of(resolution=128, gradient_checkpointing=True)
    change = find_change(plan, BASE, "cuda", round(1.7 * GB))
    assert change is not None and change.advice.startswith("lower it to ")
    lowered = plan_of(resolution=int(change.advice.removeprefix("lower it to ")), gradient_checkpointing=True)
    assert fits(lowered, BASE, "cuda", round(1.7 * GB))


def test_nothing_is_refused_while_no_worker_has_reported_its_memory() -> None:
    check_devices(plan_of(), BASE, None, {"cuda"})


def test_an_old_card_is_valid_and_keeps_the_old_estimate() -> None:
    old = ModelInfo.model_validate({**MODEL.model_dump(mode="json"), "memory": None})
    assert ModelInfo.model_validate(MODEL.model_dump(mode="json", exclude={"memory"})) == old
    assert estimate(plan_of(old), old, None).peak_memory_bytes is None
    check_devices(plan_of(old), old, 10**6, {"cuda"})


def test_a_table_of_another_version_is_dropped() -> None:
    card = BASE.model_dump(mode="json")
    assert ModelInfo.model_validate(card) == BASE
    assert ModelInfo.model_validate({**card, "memory": {"resolution": 64, "other": 1}}).memory is None


@pytest.mark.parametrize(
    ("kinds", "memory", "precision", "described"),
    [
        ({"cuda"}, 24 * GB, "auto", "in 16 bits, without gradient checkpointing"),
        ({"cuda"}, 4 * GB, "auto", "in 16 bits, with gradient checkpointing"),
        ({"cpu"}, 64 * GB, "auto", "in 32 bits, without gradient checkpointing"),
        ({"cpu"}, 5 * GB, "bf16", "in 16 bits, with gradient checkpointing, 2 samples at a time"),
        (set(), None, "auto", "in 32 bits, without gradient checkpointing"),
    ],
)
def test_the_estimate_is_that_of_the_setting_that_the_worker_will_choose(
    kinds: set[str], memory: int | None, precision: str, described: str
) -> None:
    plan = plan_of(precision=precision, resolution=64, batch_size=4)
    estimated = estimate(plan, BASE, None, kinds=kinds, largest_memory=memory)
    assert estimated.basis.endswith(f"the memory is traced, {described}")
    assert estimated.peak_memory_bytes is not None


def test_images_that_fit_no_device_are_refused_with_what_would() -> None:
    def plan(side: int) -> GenerationPlan:
        asked = GenerationSpec(model="m", prompts=("a",), width=side, height=side)
        return resolve_generation(asked, BASE, ())

    side = BASE.resolution
    needed = [predict_generation(plan(one), BASE, "cuda", "cuda16") for one in (side, 2 * side)]
    assert needed[0] < needed[1]
    check_generation(plan(2 * side), BASE, "cuda", needed[1])
    for memory, field, advice in ((needed[0], "/width", f"draw at {side} x {side}"), (1000, "/model", "smaller base")):
        with pytest.raises(InvalidSpec) as refused:
            check_generation(plan(2 * side), BASE, "cuda", memory)
        assert advice in refused.value.errors[field][0]
    check_generation(plan(2 * side), BASE.model_copy(update={"memory": None}), "cuda", 1000)
