"""A spec that fits no dataset is refused before there is one; a spec that fits some dataset is not."""

from typing import Any

import pytest

from core.domain.errors import InvalidSpec
from core.domain.limits import UNLIMITED, Limits
from core.domain.missing_dataset import check_without_dataset
from core.domain.resolve import resolve
from core.domain.spec import TrainingSpec
from tests.core.domain.test_plan import MODEL


def check(limits: Limits = UNLIMITED, **spec: Any) -> None:
    parsed = TrainingSpec.model_validate(spec)
    check_without_dataset(parsed, MODEL, lambda given, manifest: resolve(given, manifest, MODEL, limits=limits))


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"resolution": 65}, "/resolution"),
        ({"steps": 100, "schedule": {"warmup_steps": 100}}, "/schedule/warmup_steps"),
        ({"text_encoder": {"rank": 4}}, "/text_encoder/train"),
        ({"trigger": "a " * 90, "captions": {"max_token_length": 75}}, "/trigger"),
        ({"validation": {"fraction": 0, "early_stopping": {"patience": 3}}}, "/validation/early_stopping/patience"),
        ({"loss": {"prior_preservation": {"num_images": 5}}}, "/loss/prior_preservation/class_prompt"),
        ({"optimizer": {"name": "prodigy"}, "text_encoder": {"train": True, "learning_rate": 1e-5}},
         "/text_encoder/learning_rate"),
    ],
)  # fmt: skip
def test_what_fits_no_dataset_is_refused(spec: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        check(**spec)
    assert set(caught.value.errors) == {field}


def test_so_is_what_exceeds_the_limits() -> None:
    with pytest.raises(InvalidSpec) as caught:
        check(UNLIMITED.model_copy(update={"rank": 8, "images_per_dataset": 1}), adapter={"rank": 16})
    assert set(caught.value.errors) == {"/adapter/rank"}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"validation": {"early_stopping": {"patience": 3}}},  # from 12 images on
        {"schedule": {"warmup_steps": 5000}},  # with many images
        {"epochs": 1000, "schedule": {"warmup_steps": 5000}},
        {"loss": {"prior_preservation": {"weight": 0.5}}},  # with regularisation images
    ],
)
def test_what_fits_some_dataset_is_left_to_the_real_one(spec: dict[str, Any]) -> None:
    check(**spec)
