"""Trainings with generations between their steps, and kills: nothing is lost or doubled, and every byte is the same.
``python -m tests.chaos generations`` does more of it."""

from dataclasses import replace

import pytest

from tests.chaos.audit import audit
from tests.chaos.campaign import Campaign, Plan
from tests.chaos.clients import PostedGeneration
from tests.chaos.conftest import Service
from tests.chaos.faults import Cell
from tests.chaos.generations import Drawn, check_drawn, draw_undisturbed, make_bodies, read_drawn
from tests.chaos.undisturbed import run_undisturbed

KILLS = (
    Cell("trainer: kill", "drawing"),
    Cell("train worker: kill", "drawing"),
    Cell("train worker's child: kill", "sampling"),
)
SPECS = ("adamw-fp32", "lion-accumulation")
"""One of them in the precision that the base is drawn in here, which a generation beside a training needs."""


@pytest.mark.slow
def test_three_trainings_ten_generations_three_kills(service: Service) -> None:
    stack, dataset_id = service.stack, service.dataset_id
    undisturbed = run_undisturbed(stack, dataset_id, SPECS)
    bodies = make_bodies(stack)
    images = draw_undisturbed(stack, bodies)
    plan = Plan(
        3, KILLS, num_jobs=3, specs=SPECS, cancel_share=0, pause_share=0, limit_seconds=600,
        num_generations=10, bodies=bodies,
    )  # fmt: skip
    campaign = Campaign(stack, plan, dataset_id)
    campaign.run()
    found = audit(stack, campaign.ledger.jobs, campaign.ledger.datasets, undisturbed)
    assert (found.violations, found.different) == ([], [])
    assert {outcome.status for outcome in found.outcomes} == {"succeeded"}
    assert found.num_compared >= 3

    rows = read_drawn(stack)
    drawn = check_drawn(campaign.ledger.generations, rows, images, len(images))
    assert (drawn.violations, drawn.different) == ([], [])
    assert len(campaign.ledger.generations) >= 10
    assert drawn.num_compared >= len(campaign.ledger.generations) - len(KILLS), "a kill fails one generation at most"
    assert {(fault.kind, fault.phase) for fault in campaign.faults} >= {(cell.kind, cell.phase) for cell in KILLS}


GOOD = Drawn("gen_1", "succeeded", 1, None, 2, {"0": "a", "1": "b"}, {"0": "a", "1": "b"})
POSTED = PostedGeneration("base", "gen_1")


def check(*rows: Drawn) -> tuple[list[str], list[str]]:
    """What is broken, and the images with other bytes."""
    found = check_drawn([POSTED], rows, {"base": GOOD.images}, 0)
    return [violation.promise for violation in found.violations], [name for _, name in found.different]


def test_the_checker_finds_nothing_in_what_is_good() -> None:
    assert check(GOOD) == ([], [])
    died = replace(GOOD, status="failed", reason="infrastructure", images={}, stored={})
    assert check(died) == ([], [])


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        ({"status": "queued"}, "lost generation"),
        ({"status": "failed", "reason": "internal"}, "failed generation"),
        ({"num_total": 3}, "part of a generation"),
        ({"stored": {"0": "a", "1": None}}, "damaged file"),
        ({"stored": {"0": "x", "1": "b"}}, "damaged file"),
    ],
)
def test_the_checker_finds_what_is_wrong_with_a_generation(change: dict[str, object], promise: str) -> None:
    assert check(replace(GOOD, **change)) == ([promise], [])  # type: ignore[arg-type]


def test_the_checker_finds_lost_and_doubled_ones_and_other_bytes() -> None:
    assert check() == (["lost generation"], [])
    assert check(GOOD, replace(GOOD, id="gen_2")) == (["doubled generation"], [])
    other = replace(GOOD, images={"0": "a", "1": "c"}, stored={"0": "a", "1": "c"})
    assert check(other) == ([], ["1"])
