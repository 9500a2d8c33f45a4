"""Whatever a client sends that the OpenAPI document allows, or forbids: no 5xx, and no answer that it does not declare.

``make fuzz`` runs the long ones; FUZZ_SEED and FUZZ_EXAMPLES choose others.
"""

import os
from collections.abc import Callable

import httpx
import pytest

from tests.fixtures.document import read_document
from tests.fixtures.running_api import RunningApi
from tests.fuzz.conftest import Fuzz, Ids
from tests.fuzz.world import build_world

SEED = int(os.environ.get("FUZZ_SEED", "1"))
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "220")
MIN_CASES = 10_000

OPERATIONS = {f"{method.upper()} {path}" for path, methods in read_document()["paths"].items() for method in methods}
OPEN = {"GET /healthz", "GET /readyz"}


@pytest.mark.slow
def test_a_short_run_finds_nothing(api: RunningApi, ids: Ids, fuzz: Fuzz) -> None:
    campaign = fuzz(
        api, ids, "--phases", "fuzzing,stateful", "--max-examples", "6", "--no-shrink", operator=api.api_key
    )
    assert campaign.operations == OPERATIONS
    assert campaign.statuses >= {200, 404, 422}


@pytest.mark.long
def test_a_long_run_with_a_key_finds_nothing(api: RunningApi, ids: Ids, fuzz: Fuzz) -> None:
    campaign = fuzz(api, ids, "--max-examples", EXAMPLES, operator=api.api_key, seed=SEED)
    assert campaign.operations == OPERATIONS
    assert set(campaign.phases) == {"examples", "coverage", "fuzzing", "stateful"}
    assert campaign.num_cases >= MIN_CASES
    assert campaign.statuses >= {200, 201, 202, 204, 401, 404, 409, 415, 422}


@pytest.mark.long
def test_without_a_key_there_are_refusals_alone(api: RunningApi, ids: Ids, fuzz: Fuzz) -> None:
    campaign = fuzz(api, ids, "--max-examples", "20", seed=SEED)
    assert campaign.operations == OPERATIONS
    statuses = {status for (operation, status) in campaign.answers if operation not in OPEN}
    assert statuses == {401}


@pytest.mark.long
def test_tenants_do_not_see_what_the_other_makes(api: RunningApi, ids: Ids, fuzz: Fuzz) -> None:
    other = make_key(api, tenant=ids["tenants"][0])
    campaign = fuzz(api, ids, "--max-examples", "60", operator=api.api_key, other=other, seed=SEED)
    assert campaign.operations == OPERATIONS


def make_key(api: RunningApi, *, tenant: str) -> str:
    """One that may do everything of its tenant's."""
    body = {"name": "other", "scopes": ["admin"], "tenant": tenant}
    answer = httpx.post(f"{api.url}/keys", json=body, headers={"Authorization": f"Bearer {api.api_key}"})
    return str(answer.raise_for_status().json()["secret"])


@pytest.mark.long
def test_the_limits_of_production_are_declared_too(start_api: Callable[..., RunningApi], fuzz: Fuzz) -> None:
    limits = {"RATE_PER_MINUTE": "600", "RATE_BURST": "200", "FAILED_KEYS_PER_MINUTE": "30"}
    api = start_api(**{f"ATELIER_{name}": value for name, value in limits.items()})
    # A wrong key is 429 here after thirty of them, where that check waits for 401; the other runs have it.
    flags = ("--phases", "fuzzing", "--max-examples", "20", "--exclude-checks", "ignored_auth")
    campaign = fuzz(api, build_world(api), *flags, operator=api.api_key, seed=SEED)
    assert 429 in campaign.statuses
