"""The spec's fields as the form has them, without a browser."""

from app.dashboard.options import APART, OFTEN, list_groups
from app.jobs.outline import Plan
from core.domain.spec import TrainingSpec


def test_every_field_of_the_spec_has_its_place_once() -> None:
    often, groups = list_groups()
    paths = [option.path for option in often] + [option.path for group in groups for option in group.options]
    assert len(paths) == len(set(paths))
    assert {path.partition(".")[0] for path in paths} | APART == set(TrainingSpec.model_fields)
    assert tuple(option.path for option in often) == OFTEN


def test_bounds_choices_and_help_come_from_the_schema() -> None:
    often, groups = list_groups()
    known = {option.path: option for option in (*often, *(one for group in groups for one in group.options))}
    rank = known["adapter.rank"]
    assert (rank.kind, rank.minimum, rank.maximum, rank.path) == ("integer", 1, 256, "adapter.rank")
    assert rank.help == "The rank of the update."
    assert known["adapter.type"].choices == ("lora", "dora", "locon")
    assert known["validation.fraction"].kind == "loose"
    assert known["optimizer.betas"].kind == "pair"
    assert known["samples.prompts"].kind == "list"
    assert known["flip"].kind == "switch"
    assert known["loss.prior_preservation.num_images"].group == "loss.prior_preservation"
    assert all(option.help for option in known.values())


def test_the_plan_has_the_default_of_every_option_that_it_resolves() -> None:
    often, groups = list_groups()
    options = [*often, *(one for group in groups for one in group.options)]
    keys = {option.path: option.plan_key for option in options if option.plan_key}
    assert len(set(keys.values())) == len(keys), "no two options share a field"
    of_the_set = {"num_images", "dataset_sha256", "name", "trigger", "init_adapter"}
    of_the_base = {"model", "model_file_sha256", "model_sha256", "family", "prediction_type"}
    assert set(Plan.model_fields) - set(keys.values()) == of_the_set | of_the_base | {"max_grad_norm"}
    assert keys["optimizer.name"] == "optimizer" and keys["samples.seed"] == "sample_seed" and keys["seed"] == "seed"
    assert keys["loss.prior_preservation.weight"] == "prior_weight"
