"""A real API process, with something of everything in its database; no workers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fixtures.running_api import RunningApi, serve_api
from tests.fuzz.campaign import Campaign, run_campaign
from tests.fuzz.world import build_world

Ids = Mapping[str, Sequence[str]]
Fuzz = Callable[..., Campaign]


@pytest.fixture
def start_api(
    database_url: str, api_database_url: str, redis_url: str, tmp_path: Path
) -> Iterator[Callable[..., RunningApi]]:
    """Keyword arguments are variables of its environment."""
    with ExitStack() as stack:

        def start(**settings: str) -> RunningApi:
            api = serve_api(
                database_url, api_database_url, redis_url, tmp_path, ATELIER_QUOTA_QUEUED_JOBS="none", **settings
            )
            return stack.enter_context(api)

        yield start


@pytest.fixture
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Fuzz:
    """A campaign that found nothing, or the test fails and says what."""

    def run(api: RunningApi, ids: Ids, *flags: str, seed: int = 1, **keys: str) -> Campaign:
        campaign = run_campaign(api.url, ids, tmp_path_factory.mktemp("fuzz"), keys=keys, seed=seed, flags=flags)
        print(campaign.draw_table())
        assert campaign.exit_code == 0, campaign.output
        assert not any(outcome == "failure" for _, outcome in campaign.checks), campaign.output
        assert '"level": "ERROR"' not in api.log.read_text(), api.log
        return campaign

    return run


@pytest.fixture
def ids(api: RunningApi) -> Ids:
    return build_world(api)


@pytest.fixture
def api(start_api: Callable[..., RunningApi]) -> RunningApi:
    return start_api()
