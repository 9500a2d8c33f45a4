"""The text chunk ``parameters`` of a PNG, in A1111's form, which other tools read back."""

from collections.abc import Mapping

from PIL.PngImagePlugin import PngInfo

from worker.engine.families.protocol import SamplingParams


def describe(prompt: str, negative: str, params: SamplingParams, seed: int, further: Mapping[str, object]) -> PngInfo:
    """Rescaled guidance has the field of A1111's extension CFG Rescale; the interval has one of our own."""
    fields: dict[str, object] = {
        "Steps": params.num_steps,
        "Sampler": "DDIM",
        "CFG scale": params.guidance_scale,
    }
    if params.guidance_rescale:
        fields["CFG Rescale phi"] = params.guidance_rescale
    if (interval := (params.guidance_start, params.guidance_stop)) != (0.0, 1.0):
        fields["CFG interval"] = f"{interval[0]:g}-{interval[1]:g}"
    fields |= {"Seed": seed, "Size": f"{params.width}x{params.height}", **further}
    lines = [prompt, *([f"Negative prompt: {negative}"] if negative else [])]
    info = PngInfo()
    info.add_text("parameters", "\n".join([*lines, ", ".join(f"{name}: {value}" for name, value in fields.items())]))
    return info
