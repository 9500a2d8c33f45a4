"""Captions as a revision's edits change them."""

import re
from collections.abc import Iterable

from core.domain.dataset import MAX_CAPTION_CHARS, clean_caption
from core.domain.edits import AddedTags, Edits, Replacing
from core.domain.phrases import is_blank


class CaptionTooLong(Exception):
    """An edit would make it longer than MAX_CAPTION_CHARS."""


class CaptionEditor:
    """``find_replace``, ``remove_tags``, ``add_tags``, ``prefix`` and ``suffix``, in this order."""

    def __init__(self, edits: Edits) -> None:
        self._edits = edits
        self._rules = [(_compile(rule), rule.replace) for rule in edits.find_replace]

    def edit(self, caption: str | None) -> str | None:
        """Raises CaptionTooLong."""
        for pattern, replacement in self._rules:
            # After each rule: twenty of them could multiply a caption's length without bound.
            caption = _check_length(caption and _replace(pattern, replacement, caption))
        if caption and self._edits.remove_tags:
            caption = _remove_tags(caption, self._edits.remove_tags)
        if self._edits.add_tags is not None:
            caption = _add_tags(caption, self._edits.add_tags)
        if caption:
            caption = f"{self._edits.prefix or ''}{caption}{self._edits.suffix or ''}"
        return _tidy(_check_length(caption))


def _compile(rule: Replacing) -> re.Pattern[str]:
    literal = re.escape(rule.find)
    pattern = rf"(?<!\w){literal}(?!\w)" if rule.whole_word else literal
    return re.compile(pattern, re.IGNORECASE if rule.ignore_case else 0)


def _replace(pattern: re.Pattern[str], replacement: str, caption: str) -> str:
    return pattern.sub(lambda _: replacement, caption)


def _check_length(caption: str | None) -> str | None:
    if caption is not None and len(caption) > MAX_CAPTION_CHARS:
        raise CaptionTooLong
    return caption


def _tidy(caption: str | None) -> str | None:
    """One line; None if nothing visible is left."""
    return clean_caption(caption) if caption and not is_blank(caption) else None


def split_tags(caption: str) -> list[str]:
    return [tag for tag in map(str.strip, caption.split(",")) if tag]


def _remove_tags(caption: str, removed: Iterable[str]) -> str | None:
    """Captions without any of the tags keep their spacing."""
    unwanted, tags = {tag.casefold() for tag in removed}, split_tags(caption)
    kept = [tag for tag in tags if tag.casefold() not in unwanted]
    return caption if len(kept) == len(tags) else ", ".join(kept) or None


def _add_tags(caption: str | None, added: AddedTags) -> str | None:
    present = {tag.casefold() for tag in split_tags(caption or "")}
    new = [tag for tag in dict.fromkeys(added.tags) if tag.casefold() not in present]
    if not new:
        return caption
    parts = [caption] if caption else []
    return ", ".join([*new, *parts] if added.position == "front" else [*parts, *new])
