"""The whole proof in small: 12 faults over real jobs, then the checker. ``make chaos`` runs the rest."""

import pytest

from tests.chaos.audit import audit
from tests.chaos.campaign import Campaign, Plan
from tests.chaos.conftest import Service
from tests.chaos.faults import Cell
from tests.chaos.undisturbed import run_undisturbed

pytestmark = pytest.mark.slow

FAULTS = (
    Cell("trainer: kill", "training"),
    Cell("train worker: kill", "exporting"),
    Cell("train worker's child: kill", "sampling"),
    Cell("train worker: freeze", "training"),
    Cell("trainer: freeze", "caching"),
    Cell("api: kill", "upload"),
    Cell("api: kill", "post"),
    Cell("steward: kill", "training"),
    Cell("cpu worker's child: kill", "validating"),
    Cell("broker: flush", "sampling"),
    Cell("postgres: kill", "training"),
    Cell("storage: fault", "exporting"),
)
SPECS = ("prodigy-dropout", "lion-accumulation")


def test_twelve_faults(service: Service) -> None:
    """Nothing lost, nothing doubled, the same bytes; and each fault fell where it was aimed."""
    stack, dataset_id = service.stack, service.dataset_id
    undisturbed = run_undisturbed(stack, dataset_id, SPECS)
    plan = Plan(7, FAULTS, num_jobs=4, specs=SPECS, cancel_share=0, pause_share=0.25, limit_seconds=600)
    campaign = Campaign(stack, plan, dataset_id)
    campaign.run()
    found = audit(stack, campaign.ledger.jobs, campaign.ledger.datasets, undisturbed)
    assert found.violations == []
    assert found.different == []
    assert {outcome.status for outcome in found.outcomes} == {"succeeded"}
    assert found.num_compared >= plan.num_jobs
    assert {(fault.kind, fault.phase) for fault in campaign.faults} >= {(cell.kind, cell.phase) for cell in FAULTS}
