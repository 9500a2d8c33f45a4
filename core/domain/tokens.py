"""What is known of a text's tokens without a vocabulary: CLIP's text encoders are given so many at most."""

import re

TOKENS_PER_CHUNK = 75
"""Of CLIP's text encoders, which are given 77 with the marks of beginning and end."""
MAX_TOKEN_LENGTH = 225
_PARTS = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\w\s]|_)+")


def count_least_tokens(text: str) -> int:
    """A text has at least so many, whatever is in the vocabulary: words, digits and runs of marks are never joined (the
    pattern of CLIP's tokenizer, ``simple_tokenizer.py`` of openai/CLIP)."""
    return len(_PARTS.findall(text.lower()))
