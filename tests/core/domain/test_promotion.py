"""What a job's result says once another step's adapter was promoted."""

from typing import Any

from core.domain.promotion import describe_promoted

RESULT: dict[str, Any] = {
    "adapter": {"adapter-kohya": {"sha256": "a"}},
    "adapter_id": "ad_1",
    "samples": 60,
    "metrics": {"loss": 0.1, "step": 60, "num_steps": 60, "validation_loss": 0.2, "retention": 0.9},
    "proofs": {"kohya": "old"},
    "note": "Training ran all 60 steps. The adapter is from step 60.",
    "warnings": ["The adapter also changes images for prompts without the trigger."],
    "measured": {"seconds_per_sample": 0.1},
}


def promote(result: dict[str, Any], step: int, **found: Any) -> dict[str, Any]:
    known = {"loss": 0.3, "validation_loss": 0.25, "has_samples": True, **found}
    return describe_promoted(
        result, step=step, files={"adapter-kohya": {"sha256": f"{step}"}}, proofs={"kohya": "new"}, **known
    )


def test_the_figures_are_the_steps_own() -> None:
    now = promote(RESULT, 20)
    assert now["metrics"] == {"loss": 0.3, "step": 20, "num_steps": 60, "validation_loss": 0.25, "retention": None}
    assert (now["samples"], now["warnings"], now["proofs"]) == (20, [], {"kohya": "new"})
    assert now["note"] == "The adapter is from step 20, which was promoted by request. Training had chosen step 60."
    assert (now["adapter_id"], now["measured"]) == ("ad_1", RESULT["measured"])


def test_what_was_not_measured_at_the_step_is_unknown() -> None:
    now = promote(RESULT, 20, loss=None, validation_loss=None, has_samples=False)
    assert (now["metrics"]["validation_loss"], now["metrics"]["loss"], now["samples"]) == (None, 0.1, None)


def test_the_step_that_training_chose_has_its_figures_again_however_often_others_were_promoted() -> None:
    back = promote(promote(promote(RESULT, 20), 40), 60)
    own = {"adapter": {"adapter-kohya": {"sha256": "60"}}, "proofs": {"kohya": "new"}}
    assert {name: value for name, value in back.items() if name != "chosen"} == {**RESULT, **own}
    assert "step 60" in promote(promote(RESULT, 20), 40)["note"]
