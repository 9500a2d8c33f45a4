"""A base's memory on fake tensors: as on real ones, linear in the batch, and without a base's weights."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from core.domain.memory_table import Numerics
from core.domain.model import Family, ModelInfo
from core.model_folders import read_card
from tests.fixtures.bases import write_random_base
from worker.engine.adapters import inject
from worker.engine.bases.inspection import write_card
from worker.engine.device import set_checkpointing
from worker.engine.families import load_base
from worker.engine.families.registry import FAMILIES
from worker.engine.memory.live_bytes import LiveBytes
from worker.engine.memory.phases import FakeBase
from worker.engine.memory.tracing import OTHERS, PLAIN, add_memory

CPU = torch.device("cpu")
SIDE = 64


@pytest.fixture(scope="module")
def traced(random_base: tuple[Path, ModelInfo]) -> ModelInfo:
    return add_memory(random_base[1], random_base[0])


def test_live_bytes_are_counted_until_they_are_freed() -> None:
    known = torch.zeros(100)
    with LiveBytes([known]) as counter:
        first = known + 1
        view = first[:10]
        assert counter.live == counter.peak == 400
        del first
        assert counter.live == 400, "the view keeps it"
        del view
        assert (counter.live, counter.peak) == (0, 400)
        known.view(10, 10)
        assert counter.live == 0, "what was there before is not counted"


def test_what_autograd_saves_is_live() -> None:
    weight = torch.zeros(100, requires_grad=True)
    with LiveBytes([weight]) as counter:
        loss = weight.exp().sum()
        assert counter.live == 400 + 4
        loss.backward()
        assert weight.grad is not None and counter.live == 400 + 4


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("numerics", ["fp32", "cpu16"])
def test_fake_tensors_take_what_real_ones_take(
    random_base: tuple[Path, ModelInfo], numerics: Numerics, checkpointing: bool
) -> None:
    folder, dtype = random_base[0], torch.float32 if numerics == "fp32" else torch.bfloat16
    fake = FakeBase(FAMILIES["sd1"], folder, numerics)
    traced = fake.trace_step(fake.open_denoiser(PLAIN, 4), SIDE, checkpointing=checkpointing, batch=2)

    base = load_base("sd1", folder, CPU, dtype)
    inject(base.denoiser, *PLAIN.split("/"), rank=4)
    module = base.denoiser.module.train()
    for param in module.parameters():
        param.data = param.data.float() if param.requires_grad else param.data
    set_checkpointing(module, on=checkpointing)
    with LiveBytes([*module.parameters(), *module.buffers()]) as counter:
        with torch.autocast("cpu", dtype, enabled=numerics != "fp32"):
            noisy, timesteps = torch.empty(2, 4, SIDE // 4, SIDE // 4), torch.zeros(2, dtype=torch.long)
            loss = base.predict(noisy, timesteps, [{"states": torch.empty(77, 16)}] * 2).float().square().mean()
        loss.backward()
    state_of_generator = 10_000  # checkpointing keeps it beside what is traced
    assert 0 <= counter.peak - traced <= (state_of_generator if checkpointing else 0)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_is_linear_in_the_batch(random_base: tuple[Path, ModelInfo], checkpointing: bool) -> None:
    fake = FakeBase(FAMILIES["sd1"], random_base[0], "cpu16")
    base = fake.open_denoiser(PLAIN, 4)
    one, two, four = (fake.trace_step(base, SIDE, checkpointing=checkpointing, batch=size) for size in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one), rel=0.02)


def test_the_table_is_complete(traced: ModelInfo) -> None:
    table = traced.memory
    assert table is not None and table.resolution == traced.resolution
    assert set(table.passes) == set(get_args(Numerics))
    assert set(table.adapter_factors) == {PLAIN, *OTHERS} and min(table.adapter_factors.values()) == 1
    for passes in table.passes.values():
        assert 0 < passes.prediction.per_sample < passes.checkpointed_step.per_sample < passes.step.per_sample
    assert table.passes["cpu16"].step.per_sample < table.passes["cuda16"].step.per_sample < 2 * 10**7
    assert table.passes["cuda16"].step.per_sample < table.passes["fp32"].step.per_sample


@pytest.mark.slow  # each takes seconds; SDXL's registration is among the quick tests
@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_every_family_is_traced(tmp_path: Path, family: Family) -> None:
    info = write_random_base(tmp_path / "base", family=family)
    assert add_memory(info, tmp_path / "base").memory is not None


def test_a_card_keeps_its_table(traced: ModelInfo, tmp_path: Path) -> None:
    write_card(tmp_path, traced)
    assert read_card(tmp_path) == traced


def test_a_base_that_cannot_be_traced_has_no_table(random_base: tuple[Path, ModelInfo], tmp_path: Path) -> None:
    assert add_memory(random_base[1], tmp_path / "nowhere").memory is None


@pytest.mark.slow
def test_the_same_base_has_the_same_table(traced: ModelInfo, random_base: tuple[Path, ModelInfo]) -> None:
    assert add_memory(random_base[1], random_base[0]).memory == traced.memory
