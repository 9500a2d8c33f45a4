"""The tables. ``migrations/`` creates them; a test compares the two.

A new table with a tenant's rows needs row-level security in its migration, as 0006 has it; a test checks this.
"""

from core.db.tables.assets import Adapter, AdapterCheck, Dataset, DatasetFile, Model
from core.db.tables.base import DEFAULT_TENANT, Base, Checked, Leased
from core.db.tables.captions import Captioner, Captioning, ImageCaption
from core.db.tables.generations import Generation
from core.db.tables.job_steps import Promotion, SampleRequest, StepAdapter
from core.db.tables.jobs import (
    IdempotencyRecord,
    Job,
    JobArtifact,
    JobCheckpoint,
    JobDataset,
    JobEvent,
    JobMetric,
    JobSample,
    Worker,
)
from core.db.tables.sharing import AdapterLink, Publication, SentCover
from core.db.tables.slots import SlotHold
from core.db.tables.tenants import ApiKey, AuditEntry, DashboardToken, Quota, Tenant, Turn, UsageDay
from core.db.tables.webhooks import Webhook, WebhookDelivery, WebhookSecret

__all__ = [
    "DEFAULT_TENANT",
    "Adapter",
    "AdapterCheck",
    "AdapterLink",
    "ApiKey",
    "AuditEntry",
    "Base",
    "Captioner",
    "Captioning",
    "Checked",
    "DashboardToken",
    "Dataset",
    "DatasetFile",
    "Generation",
    "IdempotencyRecord",
    "ImageCaption",
    "Job",
    "JobArtifact",
    "JobCheckpoint",
    "JobDataset",
    "JobEvent",
    "JobMetric",
    "JobSample",
    "Leased",
    "Model",
    "Promotion",
    "Publication",
    "Quota",
    "SampleRequest",
    "SentCover",
    "SlotHold",
    "StepAdapter",
    "Tenant",
    "Turn",
    "UsageDay",
    "Webhook",
    "WebhookDelivery",
    "WebhookSecret",
    "Worker",
]
