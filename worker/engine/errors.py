"""How a training can fail. The trainer maps each to a TerminationReason.

TrainingError
├── NanLoss        a loss or a weight is not finite: the spec must change
├── BadInput       the base, the dataset or the spec cannot be used together
└── BaseChanged    the frozen base's weights changed: a bug of ours; the adapter must not be published
"""

import re

MAX_MESSAGE_CHARS = 300


class TrainingError(Exception):
    """``str(error)`` is a sentence for the user."""


class NanLoss(TrainingError):
    def __init__(self, step: int, learning_rate: float, what: str = "loss") -> None:
        super().__init__(f"The {what} is not a finite number at step {step} (learning rate {learning_rate:g})")


class BadInput(TrainingError):
    """Such as a base of another family, or a missing image."""


class BaseChanged(TrainingError):
    """The adapter would not be valid on its base."""


def describe_unexpected(error: BaseException) -> str:
    """Its class and the first line of its message, for a tenant to pass on: without the folders of this machine."""
    lines = str(error).strip().splitlines()
    message = re.sub(r"(?<![\w:/])/(?:[^\s/'\"]+/)+", "", lines[0])[:MAX_MESSAGE_CHARS] if lines else ""
    return f"{type(error).__name__} ({message})" if message else type(error).__name__
