"""An image's caption in training."""

import re

from core.domain.spec import TrainingSpec


def teach(spec: TrainingSpec, caption: str | None) -> str:
    """The text that an image is trained with.

    The template if one is given; else the caption, with the trigger in front unless it already has it;
    else the trigger alone.
    """
    trigger = spec.trigger or ""
    if spec.captions.template is not None:
        return spec.captions.template.format(trigger=trigger, caption=caption or "").strip(" ,")
    if caption is None or not trigger or find_phrase(caption, trigger):
        return caption or trigger
    return f"{trigger}, {caption}"


def find_phrase(text: str, phrase: str) -> re.Match[str] | None:
    """As a whole word: `a pink flower` does not contain the trigger `ink`."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE)
