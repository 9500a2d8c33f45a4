"""Health, readiness, workers, the way to the dashboard, and what every answer carries."""

import httpx

from core.db.claims import see_worker
from tests.app.conftest import LiveApi


def test_health_needs_no_key(api: LiveApi) -> None:
    answer = httpx.get(f"{api.url}/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
