"""How a training can fail. The trainer maps each to a TerminationReason.

TrainingError
├── NanLoss        a loss or a weight is not finite: the spec's to mend
├── BadInput       the base, the dataset or the spec cannot be used together
└── BaseChanged    the frozen base's weights moved: a bug of ours, never to be shipped over
"""


class TrainingError(Exception):
    """``str(error)`` is a sentence for the user."""


class NanLoss(TrainingError):
    def __init__(self, step: int, learning_rate: float, what: str = "loss") -> None:
        super().__init__(f"The {what} is not a finite number at step {step} (learning rate {learning_rate:g})")


class BadInput(TrainingError):
    """Such as a base of another family, or an image that is gone."""


class BaseChanged(TrainingError):
    """The adapter would not be valid on the base that it is meant for."""
