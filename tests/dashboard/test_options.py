"""The spec's fields as the form has them, without a browser."""

from app.dashboard.options import APART, OFTEN, list_groups
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
