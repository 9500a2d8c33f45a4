"""A job's events. They are append-only; ``seq`` counts from 1 within a job."""

from enum import StrEnum


class EventType(StrEnum):
    QUEUED = "job.queued"  # accepted, resumed, or put back for another attempt; data.reason says which
    RUNNING = "job.running"  # claimed; data.attempt
    PHASE = "job.phase"  # data.phase
    PAUSING = "job.pausing"
    PAUSED = "job.paused"
    CANCELING = "job.canceling"
    CANCELED = "job.canceled"
    CHECKPOINT = "job.checkpoint"  # data.step, data.sha256
    SAMPLES = "job.samples"  # data.step
    REQUESTED_SAMPLES = "job.requested_samples"  # data.step, data.request: drawn because a client requested them
    NOTICE = "job.notice"  # data.message: something the user should know, such as a resumed attempt
    SUCCEEDED = "job.succeeded"  # data: the job's result, with each tool's verdict instead of the proofs
    FAILED = "job.failed"  # data.reason
    PROMOTED = "job.promoted"  # data.step, data.adapter_id: after job.succeeded, another step's adapter is the job's


STATUS_EVENTS = (
    EventType.QUEUED,
    EventType.RUNNING,
    EventType.PAUSING,
    EventType.PAUSED,
    EventType.CANCELING,
    EventType.CANCELED,
    EventType.SUCCEEDED,
    EventType.FAILED,
)
FINAL_EVENTS = frozenset({EventType.SUCCEEDED, EventType.FAILED, EventType.CANCELED})
