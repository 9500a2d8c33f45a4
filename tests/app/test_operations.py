"""Health, readiness, workers, the way to the dashboard, and what every answer carries."""

import gc
import itertools
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
from prometheus_client.parser import text_string_to_metric_families

from core.db.tables import Worker
from core.db.workers import record_worker
from tests.app.conftest import LiveApi, as_tenant
from tests.app.factory import submit
from tests.fixtures.servers import PostgresHandle, ValkeyHandle, frozen, wait_for


def test_health_needs_no_key(api: LiveApi) -> None:
    answer = httpx.get(f"{api.url}/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_readiness_names_each_part(api: LiveApi) -> None:
    answer = httpx.get(f"{api.url}/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "checks": {"database": "ok", "broker": "ok", "storage": "ok"}}


def test_readiness_without_broker_and_storage(start_api: Callable[..., LiveApi]) -> None:
    api = start_api(redis_url="redis://127.0.0.1:1/0")
    (api.settings.home / "storage" / ".tmp").rmdir()
    (api.settings.home / "storage").rmdir()
    answer = httpx.get(f"{api.url}/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "status": "unavailable",
        "checks": {"database": "ok", "broker": "no answer", "storage": "not usable"},
    }


def test_readiness_before_the_migration(start_api: Callable[..., LiveApi], empty_database_url: str) -> None:
    api = start_api(database_url=empty_database_url)
    answer = httpx.get(f"{api.url}/readyz")
    assert (answer.status_code, answer.json()["checks"]["database"]) == (503, "not migrated")


def test_a_frozen_database_is_a_503_and_not_waited_for(own_api: LiveApi, postgres: PostgresHandle) -> None:
    own_api.services.database.timeout_seconds = 1.0
    with frozen(postgres.pid):
        assert own_api.client.get("/jobs").status_code == 503
        answer = httpx.get(f"{own_api.url}/readyz")
        assert (answer.status_code, answer.json()["checks"]["database"]) == (503, "no answer")
    wait_for(lambda: own_api.client.get("/jobs").status_code == 200)
    # psycopg leaves a connection attempt that was given up to the collector. The server would wait a minute for
    # the rest of it, and DROP DATABASE for the server.
    gc.collect()


def test_api_starts_without_its_database_and_gets_ready_with_it(
    start_api: Callable[..., LiveApi], postgres: PostgresHandle, database_url: str
) -> None:
    postgres.kill()
    try:
        api = start_api()
        assert httpx.get(f"{api.url}/healthz").status_code == 200
        answer = api.client.get("/jobs")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["type"] == "/problems/unavailable"
    finally:
        postgres.start()
    wait_for(lambda: api.client.get("/jobs").status_code == 200)


def test_requests_fail_clearly_while_the_database_is_away_and_work_after(
    own_api: LiveApi, postgres: PostgresHandle
) -> None:
    assert own_api.client.get("/jobs").status_code == 200
    postgres.kill()
    try:
        answer = own_api.client.get("/jobs")
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    finally:
        postgres.start()
    wait_for(lambda: own_api.client.get("/jobs").status_code == 200)


def test_a_lost_broker_fails_no_request(start_api: Callable[..., LiveApi]) -> None:
    api = start_api(redis_url="redis://127.0.0.1:1/0")
    job = submit(api)
    assert api.client.post(f"/jobs/{job['id']}/cancel").status_code == 202


def test_a_frozen_broker_holds_no_request_up(own_api: LiveApi, valkey: ValkeyHandle) -> None:
    """More jobs than the rings could be waited for within the client's patience."""
    with frozen(valkey.pid):
        jobs = [submit(own_api) for _ in range(20)]
        assert own_api.client.post(f"/jobs/{jobs[0]['id']}/cancel").status_code == 202
        assert httpx.get(f"{own_api.url}/readyz").json()["checks"]["broker"] == "no answer"
    own_api.client.post(f"/jobs/{jobs[1]['id']}/pause")
    own_api.client.post(f"/jobs/{jobs[1]['id']}/resume")
    own_api.wait_for_ring("train")


def test_workers_are_listed_while_fresh(own_api: LiveApi) -> None:
    with own_api.sessions.begin() as session:
        record_worker(
            session,
            worker_id="w1",
            device="cpu",
            device_name="cpu x2",
            memory_bytes=None,
            job_id=None,
            warm_models=["tiny"],
        )
    page = own_api.client.get("/workers").json()
    assert [(worker["id"], worker["device"], worker["warm_models"]) for worker in page["data"]] == [
        ("w1", "cpu", ["tiny"])
    ]
    with own_api.sessions.begin() as session:
        session.get_one(Worker, "w1").seen_at = datetime(2020, 1, 1, tzinfo=UTC)
    assert own_api.client.get("/workers").json()["data"] == []


def test_root_leads_to_the_dashboard(api: LiveApi) -> None:
    answer = httpx.get(f"{api.url}/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/ui")


def test_every_answer_has_security_headers(api: LiveApi) -> None:
    paths = ("/healthz", "/jobs", "/nowhere", "/openapi.json", "/", "/docs")
    for path, key in itertools.product(paths, (api.headers, {})):
        headers = httpx.get(f"{api.url}{path}", headers=key).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["referrer-policy"] == "no-referrer"


def test_docs_run_no_script_but_their_own(api: LiveApi) -> None:
    answer = httpx.get(f"{api.url}/docs")
    assert "SwaggerUIBundle" in answer.text
    policy = answer.headers["content-security-policy"]
    script_sources = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "'sha256-" in script_sources
    assert "unsafe" not in script_sources


def read_gauges(api: LiveApi) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Through Prometheus's own parser: name and labels -> value."""
    answer = api.client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/plain"), answer.text
    families = text_string_to_metric_families(answer.text)
    samples = [sample for family in families for sample in family.samples]
    return {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


def test_metrics_count_the_jobs_of_ones_own_tenant(api: LiveApi, other: LiveApi) -> None:
    submit(other)
    submit(api)
    submit(api)
    own = frozenset({("tenant", api.tenant_id)})
    gauges = read_gauges(api)
    assert gauges["atelier_jobs", own | {("status", "queued")}] == 2
    assert gauges["atelier_jobs", own | {("status", "succeeded")}] == 0
    assert gauges["atelier_oldest_queued_job_seconds", own] > 0
    assert gauges["atelier_stored_bytes", own] > 0
    assert gauges["atelier_steps_today", own] > 0
    assert {dict(labels).get("tenant", api.tenant_id) for _, labels in gauges} == {api.tenant_id}


def test_metrics_show_the_operator_every_tenant_and_the_workers(own_api: LiveApi) -> None:
    with as_tenant(own_api) as tenant:
        submit(tenant)
    with own_api.sessions.begin() as session:
        record_worker(
            session,
            worker_id="host/cpu/0",
            device="cpu",
            device_name="A CPU",
            memory_bytes=None,
            job_id=None,
            warm_models=(),
        )
    gauges = read_gauges(own_api)
    queued = [
        gauges["atelier_jobs", frozenset({("tenant", one), ("status", "queued")})]
        for one in (own_api.tenant_id, tenant.tenant_id)
    ]
    assert queued == [0, 1]
    worker = frozenset({("worker", "host/cpu/0"), ("device", "cpu"), ("device_name", "A CPU")})
    assert gauges["atelier_worker_up", worker] == 1
