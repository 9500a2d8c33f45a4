"""Grids: which image has which settings."""

from typing import Any

import pytest

from core.domain.artifacts import Artifact
from core.domain.errors import InvalidSpec
from core.domain.generation import (
    MAX_IMAGES,
    GenerationPlan,
    GenerationSpec,
    StackedAdapter,
    list_adapters,
    resolve_generation,
)
from tests.app.factory import MODEL

FILE = Artifact(key="k", sha256="0" * 64, size=1)
ONE = {"id": "ad_1", "weight": 0.8}


def resolve(grid: dict[str, Any], *adapters: dict[str, Any], **spec: Any) -> GenerationPlan:
    asked = GenerationSpec.model_validate(
        {"model": "m", "prompts": ["a", "b"], "adapters": list(adapters), "seed": 5, "grid": grid, **spec}
    )
    stack = [
        StackedAdapter(
            id=one.id or one.job or "", step=one.step, name=f"name of {one.id}", weight=one.weight, file=FILE
        )
        for one in list_adapters(asked)
    ]
    return resolve_generation(asked, MODEL, stack)


def test_rows_and_columns_vary_each_its_own() -> None:
    grid = {"x": {"field": "weight", "values": [0, 1.5]}, "y": {"field": "seed", "values": [1, 2, 3]}}
    plan = resolve(grid, ONE)
    assert plan.grid is not None
    assert (plan.grid.columns, plan.grid.rows) == (("weight 0", "weight 1.5"), ("seed 1", "seed 2", "seed 3"))
    assert [(cell.weights, cell.seed) for cell in plan.grid.cells] == [
        ((weight,), seed) for seed in (1, 2, 3) for weight in (0.0, 1.5)
    ]
    assert (plan.per_prompt, plan.total) == (6, 12)
    assert [plan.place(index) for index in (0, 1, 2, 7)] == [("a", 1), ("a", 1), ("a", 2), ("b", 1)]
    assert plan.cell_of(7).weights == (1.5,)


def test_adapters_take_turns_in_their_place_of_the_stack() -> None:
    grid = {"x": {"field": "adapter", "values": ["ad_2", "ad_1"], "entry": 1}}
    plan = resolve(grid, ONE, {"id": "ad_3", "weight": 0.5})
    assert [adapter.id for adapter in plan.adapters] == ["ad_1", "ad_3", "ad_2"]
    assert plan.grid is not None and plan.grid.columns == ("name of ad_2", "name of ad_1") and plan.grid.rows == ()
    assert [cell.weights for cell in plan.grid.cells] == [(0.8, None, 0.5), (1.3, None, None)]


def test_the_steps_of_a_job_side_by_side() -> None:
    grid = {
        "x": {"field": "step", "values": [50, 100]},
        "y": {"field": "guidance_scale", "values": [3.0, 7.5]},
    }
    plan = resolve(grid, {"job": "job_1", "step": 150})
    assert [adapter.step for adapter in plan.adapters] == [150, 50, 100]
    assert plan.grid is not None
    assert [(cell.weights, cell.guidance_scale) for cell in plan.grid.cells] == [
        ((None, 1.0, None), 3.0),
        ((None, None, 1.0), 3.0),
        ((None, 1.0, None), 7.5),
        ((None, None, 1.0), 7.5),
    ]


@pytest.mark.parametrize(
    ("grid", "pointer", "reason"),
    [
        ({"x": {"field": "weight", "values": [9]}}, "/grid/x/values", "9 is not possible for weight"),
        ({"x": {"field": "weight", "values": ["x"]}}, "/grid/x/values", "'x' is not possible for weight"),
        ({"x": {"field": "seed", "values": [1.5]}}, "/grid/x/values", "1.5 is not possible for seed"),
        ({"x": {"field": "step", "values": [10]}}, "/grid/x/values", "by its id, or by its job and step"),
        ({"x": {"field": "adapter", "values": [7]}}, "/grid/x/values", "7 is not possible for adapter"),
        (
            {"x": {"field": "weight", "values": [1], "entry": 1}},
            "/grid/x/entry",
            "names adapter 1 of `adapters`, where there is 1",
        ),
        (
            {"x": {"field": "seed", "values": [*range(9)]}, "y": {"field": "num_steps", "values": [*range(1, 9)]}},
            "/grid",
            f"the limit is {MAX_IMAGES}",
        ),
    ],
)
def test_what_a_grid_cannot_be_is_refused(grid: dict[str, Any], pointer: str, reason: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        resolve(grid, ONE)
    assert reason in refused.value.errors[pointer][0]


def test_a_grid_has_one_image_in_a_cell() -> None:
    with pytest.raises(InvalidSpec) as refused:
        resolve({"x": {"field": "seed", "values": [1]}}, ONE, num_images=2)
    assert "must be 1 with a grid" in refused.value.errors["/num_images"][0]


def test_more_adapters_than_a_worker_reads_are_refused() -> None:
    ids = [f"ad_{number}" for number in range(2, 18)]
    with pytest.raises(InvalidSpec) as refused:
        resolve({"x": {"field": "adapter", "values": ids}}, ONE)
    assert "needs 17 adapters; the limit is 16" in refused.value.errors["/grid"][0]
