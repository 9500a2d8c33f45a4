"""Token counts of a text without a vocabulary: CLIP's text encoders have a limit."""

import re

TOKENS_PER_CHUNK = 75
"""For CLIP's text encoders, which get 77 with the start and end tokens."""
MAX_TOKEN_LENGTH = 225
_PARTS = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\w\s]|_)+")


def count_least_tokens(text: str) -> int:
    """A lower bound, whatever is in the vocabulary: words, digits and runs of marks are never joined (the pattern of
    CLIP's tokenizer, ``simple_tokenizer.py`` of openai/CLIP)."""
    return len(_PARTS.findall(text.lower()))
