"""The guidance of sample images: the spec's values, over the model's defaults."""

from typing import NamedTuple

from core.domain.errors import InvalidSpec
from core.domain.model import Defaults
from core.domain.spec import TrainingSpec


class Guidance(NamedTuple):
    """``start`` and ``stop`` are fractions of the steps, 0 to 1."""

    scale: float
    rescale: float
    start: float
    stop: float


def choose_guidance(spec: TrainingSpec, defaults: Defaults) -> Guidance:
    """Raises InvalidSpec for a given interval that contains no step."""
    wanted = spec.samples
    start = defaults.sample_guidance_start if wanted.guidance_start is None else wanted.guidance_start
    stop = defaults.sample_guidance_stop if wanted.guidance_stop is None else wanted.guidance_stop
    num_steps = wanted.num_steps or defaults.sample_num_steps
    if int(start * num_steps) >= int(stop * num_steps):
        field = "guidance_stop" if wanted.guidance_start is None else "guidance_start"
        if wanted.guidance_start is None and wanted.guidance_stop is None:
            start, stop = 0.0, 1.0  # so few steps that the default interval contains none
        else:
            raise InvalidSpec(
                f"No step of {num_steps} is between samples.guidance_start ({start:g}) and samples.guidance_stop "
                f"({stop:g}): guidance must start before it stops.",
                {f"/samples/{field}": [f"leaves no step of {num_steps} from {start:g} to {stop:g}"]},
            )
    rescale = defaults.sample_guidance_rescale if wanted.guidance_rescale is None else wanted.guidance_rescale
    return Guidance(wanted.guidance_scale or defaults.sample_guidance_scale, rescale, start, stop)
