"""What an image of the set is called in training, and how much of it a text encoder can be given."""

import re

from core.domain.spec import TrainingSpec

MAX_TOKEN_LENGTH = 225
TOKENS_PER_CHUNK = 75
"""Of CLIP's text encoders, which are given 77 with the marks of beginning and end."""
_PARTS = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\w\s]|_)+")


def teach(spec: TrainingSpec, caption: str | None) -> str:
    """The text that an image is trained under.

    The template where one is given; else the caption, with the trigger in front unless it already has it;
    else the trigger alone.
    """
    trigger = spec.trigger or ""
    if spec.captions.template is not None:
        return spec.captions.template.format(trigger=trigger, caption=caption or "").strip(" ,")
    if caption is None or not trigger or find_phrase(caption, trigger):
        return caption or trigger
    return f"{trigger}, {caption}"


def find_phrase(text: str, phrase: str) -> re.Match[str] | None:
    """As a word: of `a pink flower` nobody learns what `ink` is."""
    return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE)


def count_least_tokens(text: str) -> int:
    """A text has at least so many tokens of CLIP's, whatever is in its vocabulary: words, digits and runs of marks are
    never joined (the pattern of its tokenizer, ``simple_tokenizer.py`` of openai/CLIP)."""
    return len(_PARTS.findall(text.lower()))
