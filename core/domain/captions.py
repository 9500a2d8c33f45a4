"""What an image of the set is called in training."""

from core.domain.spec import TrainingSpec


def teach(spec: TrainingSpec, caption: str | None) -> str:
    """The text that an image is trained under.

    The template where one is given; else the caption, with the trigger in front unless it already has it;
    else the trigger alone.
    """
    trigger = spec.trigger or ""
    if spec.captions.template is not None:
        return spec.captions.template.format(trigger=trigger, caption=caption or "").strip(" ,")
    if caption is None or not trigger or trigger.lower() in caption.lower():
        return caption or trigger
    return f"{trigger}, {caption}"
