"""A JSON body's numbers and truths are what they are written as."""

from typing import Any

import pytest
from pydantic import ValidationError

from core.domain.limits import Limits
from core.domain.spec import TrainingSpec
from core.settings import Settings

UNLIMITED: dict[str, Any] = dict.fromkeys(Limits.model_fields)


@pytest.mark.parametrize("look_alike", ["300", True, False, 300.5, "three hundred", [300], {}])
def test_look_alikes_are_no_whole_numbers(look_alike: object) -> None:
    with pytest.raises(ValidationError, match="valid integer"):
        TrainingSpec.model_validate({"steps": look_alike})
    with pytest.raises(ValidationError, match="valid integer"):
        Limits.model_validate({**UNLIMITED, "stored_bytes": look_alike})


@pytest.mark.parametrize("look_alike", ["0.5", True, "half", [0.5]])
def test_look_alikes_are_no_numbers(look_alike: object) -> None:
    for spec in ({"adapter": {"alpha": look_alike}}, {"optimizer": {"betas": [look_alike, 0.9]}}):
        with pytest.raises(ValidationError, match="valid number"):
            TrainingSpec.model_validate(spec)


@pytest.mark.parametrize("look_alike", [1, 0, "yes", "true", 1.0])
def test_look_alikes_are_no_truths(look_alike: object) -> None:
    for spec in ({"flip": look_alike}, {"adapter": {"rslora": look_alike}}):
        with pytest.raises(ValidationError, match="valid boolean"):
            TrainingSpec.model_validate(spec)


def test_a_whole_number_may_be_written_with_a_point() -> None:
    spec = TrainingSpec.model_validate({"steps": 300.0, "adapter": {"rank": 8.0, "alpha": 4.0}})
    assert (spec.steps, spec.adapter.rank, spec.adapter.alpha) == (300, 8, 4)
    assert type(spec.steps) is int
    assert Limits.model_validate({**UNLIMITED, "rank": 16.0}).rank == 16


def test_the_environment_has_text_alone() -> None:
    environment = {"DATABASE_URL": "postgresql://x", "REDIS_URL": "redis://x", "ATELIER_QUOTA_QUEUED_JOBS": "5"}
    assert Settings.model_validate(environment).default_limits.queued_jobs == 5
