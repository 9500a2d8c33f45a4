"""GET /metrics in Prometheus' text format.

All figures come from the database at the time of the request, so every process gives the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.orm import Session

from app.auth.service import Caller
from core.db import gauges
from core.db.gauges import TenantGauges
from core.db.workers import SeenWorker, list_workers

MEDIA_TYPE = CONTENT_TYPE_LATEST
_BY_TENANT = {
    "oldest_queued_seconds": ("atelier_oldest_queued_job_seconds", "Age of the oldest queued job; 0 if there is none."),
    "pending_deliveries": ("atelier_pending_webhook_deliveries", "Webhook deliveries to be sent or retried."),
    "stored_bytes": ("atelier_stored_bytes", "Bytes in storage: datasets, checkpoints, samples and adapters."),
    "steps_today": ("atelier_steps_today", "Training steps of the jobs accepted today (UTC)."),
}


@dataclass(frozen=True, eq=False)
class Figures(Collector):
    tenants: Mapping[str, TenantGauges]
    workers: list[SeenWorker]

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("atelier_build_info", "The version of the service.", labels=["version"])
        build.add_metric([version("atelier")], 1)
        yield build
        jobs = GaugeMetricFamily("atelier_jobs", "Jobs by status, until they are deleted.", labels=["tenant", "status"])
        for tenant, measured in self.tenants.items():
            for status, count in measured.jobs.items():
                jobs.add_metric([tenant, status], count)
        yield jobs
        for field, (name, text) in _BY_TENANT.items():
            gauge = GaugeMetricFamily(name, text, labels=["tenant"])
            for tenant, measured in self.tenants.items():
                gauge.add_metric([tenant], getattr(measured, field))
            yield gauge
        yield self._describe_workers()

    def _describe_workers(self) -> Metric:
        labels = ["worker", "device", "device_name"]
        up = GaugeMetricFamily("atelier_worker_up", "Training workers heard of within the last minute.", labels=labels)
        for worker in self.workers:
            up.add_metric([worker.id, worker.device, worker.device_name], 1)
        return up


def measure(session: Session, caller: Caller) -> Figures:
    """The caller's tenant; every tenant for the operator."""
    workers = list(list_workers(session, caller.tenant_id))
    tenants = gauges.list_tenant_ids(session)
    return Figures({tenant: gauges.measure_tenant(session, tenant) for tenant in tenants}, workers)


def render(figures: Figures) -> bytes:
    registry = CollectorRegistry()
    registry.register(figures)
    return generate_latest(registry)
