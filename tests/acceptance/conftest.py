"""One service for all acceptance tests of a worker, started as a user would."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.fixtures.hub import Hub, serve_hub
from tests.fixtures.servers import state_dir_for_tests
from tests.fixtures.service import up


@dataclass
class Atelier:
    """An HTTP client with the admin key; nothing else is known of it."""

    http: httpx.Client
    home: Path

    def wait_for_dataset(self, dataset_id: str) -> dict[str, object]:
        while (dataset := self.http.get(f"/datasets/{dataset_id}").raise_for_status().json())["status"] == "validating":
            time.sleep(0.2)
        return dict(dataset)

    def wait_for_job(self, job_id: str) -> dict[str, object]:
        while True:
            job = self.http.get(f"/jobs/{job_id}", params={"wait": 20}).raise_for_status().json()
            if job["status"] in {"succeeded", "failed", "canceled", "paused"}:
                return dict(job)


@dataclass
class PublishingAtelier(Atelier):
    """``hub``: where it publishes."""

    hub: Hub


@pytest.fixture(scope="session")
def atelier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublishingAtelier]:
    home = tmp_path_factory.mktemp("service") / "home"
    cwd = tmp_path_factory.mktemp("cwd")
    settings = {"ATELIER_HEARTBEAT_SECONDS": "0.5"}  # so soon a trainer hears of requests
    with state_dir_for_tests(), serve_hub() as hub, up(home, cwd, ATELIER_HUB_URL=hub.url, **settings) as service:
        key = (home / "admin.key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=service.url, headers=headers, timeout=60) as http:
            yield PublishingAtelier(http, home, hub)
        service.process.terminate()
        assert service.process.wait(120) == 0
