"""How sample images are guided: what a spec says, over the model's defaults."""

from typing import NamedTuple

from core.domain.errors import InvalidSpec
from core.domain.model import Defaults
from core.domain.spec import TrainingSpec


class Guidance(NamedTuple):
    """``start`` and ``stop`` are parts of the steps, 0 to 1."""

    scale: float
    rescale: float
    start: float
    stop: float


def choose_guidance(spec: TrainingSpec, defaults: Defaults) -> Guidance:
    """Raises InvalidSpec for an interval that holds no step."""
    wanted = spec.samples
    start = defaults.sample_guidance_start if wanted.guidance_start is None else wanted.guidance_start
    stop = defaults.sample_guidance_stop if wanted.guidance_stop is None else wanted.guidance_stop
    if start >= stop:
        raise InvalidSpec(
            f"samples.guidance_start is {start:g} and samples.guidance_stop is {stop:g}: guidance must start before it "
            "stops.",
            {"/samples/guidance_start": [f"must be less than guidance_stop, which is {stop:g}"]},
        )
    rescale = defaults.sample_guidance_rescale if wanted.guidance_rescale is None else wanted.guidance_rescale
    return Guidance(wanted.guidance_scale or defaults.sample_guidance_scale, rescale, start, stop)
