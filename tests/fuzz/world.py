"""What the fuzzed service has: things of every kind, so that calls find something."""

from collections.abc import Mapping, Sequence

from core.db.tables import DEFAULT_TENANT
from tests.app import world
from tests.app.conftest import LiveApi, open_client
from tests.app.factory import submit
from tests.fixtures.running_api import RunningApi

SPARE = 3
"""So many more jobs of each kind: with all that comes of one, paused, and waiting. Some are deleted on the way."""


def build_world(api: RunningApi) -> Mapping[str, Sequence[str]]:
    """Their ids, by dictionary of schemathesis.toml."""
    with open_client(api.url, api.api_key) as client:
        seen = LiveApi.of_process(api, client)
        first = world.build(seen, seen)
        jobs = [submit(seen, webhook={"url": "https://example.com/hook"}) for _ in range(SPARE)]
        for job in jobs:
            world.work(seen, job["id"])
        waiting = [submit(seen)["id"] for _ in range(2 * SPARE)]
        for job_id in waiting[:SPARE]:
            client.post(f"/jobs/{job_id}/pause").raise_for_status()
        other = client.post("/tenants", json={"name": "other"}).json()["id"]
        adapters = [adapter["id"] for adapter in client.get("/adapters").json()["data"]]
    return {
        "jobs": [first.job, *(job["id"] for job in jobs), *waiting],
        "datasets": [first.dataset, first.open_dataset, *(job["dataset"] for job in jobs)],
        "adapters": adapters,
        "generations": [first.generation],
        "captionings": [first.captioning],
        "captioners": ["tags"],
        "checks": [first.check],
        "publications": [first.publication],
        "links": [first.link],
        "covers": [first.cover],
        "deliveries": [first.delivery],
        "requests": [first.request],
        "images": [first.image],
        "keys": [first.key],
        "tenants": [other, DEFAULT_TENANT],
        "models": ["toy", "tiny"],
    }
