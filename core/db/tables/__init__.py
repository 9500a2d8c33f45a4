"""The tables. ``migrations/`` makes them; the two are compared by a test.

Whoever adds a table with a tenant's things gives it row-level security in its migration, as 0006 does; a test asks
for it.
"""

from core.db.tables.assets import Adapter, Dataset, DatasetFile, Model
from core.db.tables.base import DEFAULT_TENANT, Base
from core.db.tables.jobs import (
    IdempotencyRecord,
    Job,
    JobArtifact,
    JobCheckpoint,
    JobEvent,
    JobMetric,
    JobSample,
    Worker,
)
from core.db.tables.slots import SlotHold
from core.db.tables.tenants import ApiKey, AuditEntry, DashboardToken, Quota, Tenant, Turn, UsageDay
from core.db.tables.webhooks import Webhook, WebhookDelivery, WebhookSecret

__all__ = [
    "DEFAULT_TENANT",
    "Adapter",
    "ApiKey",
    "AuditEntry",
    "Base",
    "DashboardToken",
    "Dataset",
    "DatasetFile",
    "IdempotencyRecord",
    "Job",
    "JobArtifact",
    "JobCheckpoint",
    "JobEvent",
    "JobMetric",
    "JobSample",
    "Model",
    "Quota",
    "SlotHold",
    "Tenant",
    "Turn",
    "UsageDay",
    "Webhook",
    "WebhookDelivery",
    "WebhookSecret",
    "Worker",
]
