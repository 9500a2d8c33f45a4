"""What is known of a base model's time and memory."""

from atelier_client.answers import Answer


class Calibration(Answer):
    """A few timed steps on ``device``, from which estimates are made until a job has run."""

    device: str
    resolution: int
    seconds_per_sample: float
    start_seconds: float
    seconds_per_image: float


class MemoryNeed(Answer):
    """Predicted bytes of a training with the base's defaults, on a ``device``: ``cpu`` or ``cuda``."""

    device: str
    fastest_bytes: int
    least_bytes: int
