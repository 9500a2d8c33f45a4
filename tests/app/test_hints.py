"""Fields that are misspelt, misplaced or called as other tools call them: the hint has the full path."""

from typing import Any

import pytest

from app.validation import SPEC_FIELDS
from tests.app.conftest import LiveApi
from tests.app.test_jobs import refuse


@pytest.mark.parametrize(
    ("place", "meant"),
    [
        ("learning_rate", "optimizer.learning_rate or text_encoder.learning_rate"),
        ("rank", "adapter.rank or text_encoder.rank"),
        ("alpha", "adapter.alpha"),
        ("warmup_steps", "schedule.warmup_steps"),
        ("noise_offset", "loss.noise_offset"),
        ("min_snr_gamma", "loss.min_snr_gamma"),
        ("class_prompt", "loss.prior_preservation.class_prompt"),
        ("loss.class_prompt", "loss.prior_preservation.class_prompt"),
        ("patience", "validation.early_stopping.patience"),
        ("prompts", "samples.prompts"),
        ("optimizer.steps", "steps at the top"),
        ("adapter.batch_size", "batch_size at the top or loss.prior_preservation.batch_size"),
        ("adapter.learning_rate", "optimizer.learning_rate or text_encoder.learning_rate"),
        ("stepz", "steps"),
        ("adapter.rnak", "adapter.rank"),
        ("samples.promps", "samples.prompts"),
        ("learningRate", "optimizer.learning_rate or text_encoder.learning_rate"),
        ("lr", "optimizer.learning_rate"),
        ("network_dim", "adapter.rank"),
        ("max_train_steps", "steps"),
    ],
)
def test_a_hint_names_the_full_path(place: str, meant: str) -> None:
    assert SPEC_FIELDS.suggest(place.split(".")) == f"; did you mean {meant}?"


def test_a_path_in_place_of_objects_is_written_out() -> None:
    nested = '; write {"optimizer": {"learning_rate": …}}'
    assert SPEC_FIELDS.suggest(["optimizer.learning_rate"]) == nested
    assert SPEC_FIELDS.suggest(["/optimizer/learning_rate"]) == nested
    assert SPEC_FIELDS.suggest(["loss", "prior_preservation.weight"]).count("{") == 3


def test_nothing_is_suggested_where_nothing_is_alike() -> None:
    assert SPEC_FIELDS.suggest(["xyzzy"]) == ""


def test_no_hint_suggests_what_was_sent(api: LiveApi) -> None:
    sent: dict[str, Any] = {"learning_rate": 1e-4, "rank": 8, "optimizer": {"steps": 10}, "schedule": {"seed": 1}}
    answer = api.client.post("/jobs?dry_run=true", json={"model": "tiny", "dataset": "x", **sent})
    problem = refuse(answer, 422, "invalid-spec")
    assert problem["errors"]["/learning_rate"][0].endswith("optimizer.learning_rate or text_encoder.learning_rate?")
    assert problem["errors"]["/optimizer/steps"] == ["there is no such field; did you mean steps at the top?"]
    assert problem["errors"]["/schedule/seed"] == [
        "there is no such field; did you mean seed at the top or samples.seed?"
    ]


@pytest.mark.parametrize("wrong", ["adamw", 3, [1], True])
def test_a_value_where_an_object_belongs(api: LiveApi, wrong: Any) -> None:
    answer = api.client.post("/jobs?dry_run=true", json={"model": "tiny", "dataset": "x", "optimizer": wrong})
    problem = refuse(answer, 422, "invalid-spec")
    assert problem["errors"] == {"/optimizer": ["should be an object with fields such as name, learning_rate"]}
