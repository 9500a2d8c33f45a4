"""The states of jobs, datasets, models and adapters, and the only table of the transitions that a job may make.

A trigger in the database enforces this table: see migrations/.
"""

from enum import StrEnum


class JobStatus(StrEnum):
    QUEUED = "queued"  # POST /jobs; running -> queued by retry or drain; paused -> queued by resume
    RUNNING = "running"  # queued -> running by a worker's claim
    PAUSING = "pausing"  # running -> pausing by POST /pause
    PAUSED = "paused"  # pausing -> paused by the worker; queued -> paused by POST /pause
    CANCELING = "canceling"  # running, pausing -> canceling by POST /cancel
    SUCCEEDED = "succeeded"  # running, pausing -> succeeded by the worker's commit
    FAILED = "failed"  # running, pausing -> failed by the worker, or by the steward after the last retry
    CANCELED = "canceled"  # canceling -> canceled by the worker or steward; queued, paused -> canceled at once


class Phase(StrEnum):
    """The phase of a running job."""

    LOADING = "loading"
    CACHING = "caching"
    TRAINING = "training"
    SAMPLING = "sampling"
    SCORING = "scoring"
    EXPORTING = "exporting"


TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.CANCELED}),
    JobStatus.RUNNING: frozenset(
        {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.QUEUED, JobStatus.PAUSING, JobStatus.CANCELING}
    ),
    JobStatus.PAUSING: frozenset({JobStatus.PAUSED, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELING}),
    JobStatus.PAUSED: frozenset({JobStatus.QUEUED, JobStatus.CANCELED}),
    JobStatus.CANCELING: frozenset({JobStatus.CANCELED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELED: frozenset(),
}

TERMINAL = frozenset(status for status, following in TRANSITIONS.items() if not following)
HELD = frozenset({JobStatus.RUNNING, JobStatus.PAUSING, JobStatus.CANCELING})
"""The states in which a worker holds the job under a lease."""


def may_follow(current: JobStatus, following: JobStatus) -> bool:
    return following in TRANSITIONS[current]


class DatasetStatus(StrEnum):
    OPEN = "open"  # POST /datasets with a name; accepts files
    VALIDATING = "validating"  # finalized, or uploaded in one request: a worker reads it
    READY = "ready"  # validating -> ready: never changes again
    REJECTED = "rejected"  # validating -> rejected: the report says why


class ModelStatus(StrEnum):
    """ready: jobs may use it; checking: a worker prepares it; rejected: see error."""

    CHECKING = "checking"  # POST /models: a worker reads its source
    READY = "ready"  # checking -> ready by the worker; POST /models, or a folder that is found, with a card
    REJECTED = "rejected"  # checking -> rejected: the error says why, and another POST /models starts anew


class AdapterStatus(StrEnum):
    """ready: it can be used; checking: a worker reads the file; rejected: see error."""

    CHECKING = "checking"  # POST /adapters: a worker reads the file
    READY = "ready"  # checking -> ready by the worker; a job's adapter is ready from the start
    REJECTED = "rejected"  # checking -> rejected: the error says why


class CoverStatus(StrEnum):
    """checking: a worker reads the picture; ready: it is the adapter's cover; rejected: see error."""

    CHECKING = "checking"  # PUT /adapters/{id}/cover
    READY = "ready"  # checking -> ready by the worker
    REJECTED = "rejected"  # checking -> rejected: the error says why


class CheckStatus(StrEnum):
    """checking: a worker compares the adapters; done: see result; failed: see error."""

    CHECKING = "checking"  # POST /adapters/check
    DONE = "done"  # checking -> done by the worker
    FAILED = "failed"  # checking -> failed: the error says why


class TerminationReason(StrEnum):
    """Every reason for which a job can fail."""

    NAN_LOSS = "nan-loss"
    BAD_INPUT = "bad-input"
    OUT_OF_MEMORY = "out-of-memory"
    INFRASTRUCTURE = "infrastructure"
    POISON = "poison"
    TOO_LONG = "max-duration"


_SENTENCES: dict[TerminationReason, tuple[str, str]] = {
    TerminationReason.NAN_LOSS: (
        "The loss became NaN",
        "Training diverged. Lower optimizer.learning_rate (half of it is a good start), or set precision to fp32.",
    ),
    TerminationReason.BAD_INPUT: (
        "Unusable training input",
        "The model or the dataset could not be used as the spec requires; see the detail and change the spec.",
    ),
    TerminationReason.OUT_OF_MEMORY: (
        "The device ran out of memory",
        "Set gradient_checkpointing to true, or lower batch_size, loss.prior_preservation.batch_size or resolution.",
    ),
    TerminationReason.INFRASTRUCTURE: (
        "The workers failed",
        "The job was tried several times, and each worker failed. Ask the operator to read the worker's log.",
    ),
    TerminationReason.POISON: (
        "The job kills its workers",
        "Three workers died on this job without progress, so it is not retried. Ask the operator to read the log.",
    ),
    TerminationReason.TOO_LONG: (
        "The job exceeded its time limit",
        "Raise max_duration_seconds, or lower steps.",
    ),
}


def title_of(reason: TerminationReason) -> str:
    return _SENTENCES[reason][0]


def advice_of(reason: TerminationReason) -> str:
    return _SENTENCES[reason][1]
