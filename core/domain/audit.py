"""The actions in the audit log."""

from enum import StrEnum


class Action(StrEnum):
    """Named as ``thing.done``. The target is the thing's id: the tenant's for its webhook secret, the key's for the
    dashboard."""

    DATASET_CREATED = "dataset.created"
    DATASET_FILLED = "dataset.filled"
    DATASET_FINALIZED = "dataset.finalized"
    DATASET_DELETED = "dataset.deleted"
    JOB_CREATED = "job.created"
    JOB_CANCELED = "job.canceled"
    JOB_PAUSED = "job.paused"
    JOB_RESUMED = "job.resumed"
    JOB_PROMOTED = "job.promoted"
    SAMPLES_REQUESTED = "samples.requested"
    JOB_DELETED = "job.deleted"
    ADAPTER_IMPORTED = "adapter.imported"
    ADAPTER_MERGED = "adapter.merged"
    ADAPTER_RESIZED = "adapter.resized"
    ADAPTERS_CHECKED = "adapters.checked"
    ADAPTER_CHANGED = "adapter.changed"
    ADAPTER_DELETED = "adapter.deleted"
    GENERATION_CREATED = "generation.created"
    GENERATION_CANCELED = "generation.canceled"
    GENERATION_DELETED = "generation.deleted"
    MODEL_REGISTERED = "model.registered"
    MODEL_DELETED = "model.deleted"
    DELIVERY_REPEATED = "delivery.repeated"
    DELIVERY_TESTED = "delivery.tested"
    WEBHOOK_SECRET_ROTATED = "webhook_secret.rotated"  # noqa: S105 - an action, no secret
    KEY_CREATED = "key.created"
    KEY_ROTATED = "key.rotated"
    KEY_REVOKED = "key.revoked"
    TENANT_CREATED = "tenant.created"
    QUOTA_CHANGED = "quota.changed"
    DASHBOARD_LINKED = "dashboard.linked"
    DASHBOARD_OPENED = "dashboard.opened"
    DASHBOARD_CLOSED = "dashboard.closed"
