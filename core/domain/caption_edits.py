"""Captions as a revision's edits change them."""

from collections.abc import Iterable, Iterator

from core.domain.dataset import MAX_CAPTION_CHARS, clean_caption
from core.domain.edits import AddedTags, Edits, Replacing
from core.domain.phrases import is_blank


class CaptionTooLong(Exception):
    """An edit would make it longer than MAX_CAPTION_CHARS."""


class CaptionEditor:
    """``find_replace``, ``remove_tags``, ``add_tags``, ``prefix`` and ``suffix``, in this order."""

    def __init__(self, edits: Edits) -> None:
        self._edits = edits

    def edit(self, caption: str | None) -> str | None:
        """Raises CaptionTooLong."""
        for rule in self._edits.find_replace:
            # After each rule: twenty of them could multiply a caption's length without bound.
            caption = _check_length(caption and replace_text(caption, rule))
        if caption and self._edits.remove_tags:
            caption = _remove_tags(caption, self._edits.remove_tags)
        if self._edits.add_tags is not None:
            caption = _add_tags(caption, self._edits.add_tags)
        if caption:
            caption = f"{self._edits.prefix or ''}{caption}{self._edits.suffix or ''}"
        return _tidy(_check_length(caption))


def replace_text(text: str, rule: Replacing) -> str:
    """By ``str.find``, whose time is linear: that of a regular expression without case is not."""
    parts, end = [], 0
    for start in _find_all(text, rule):
        parts += [text[end:start], rule.replace]
        end = start + len(rule.find)
    return "".join([*parts, text[end:]])


def _find_all(text: str, rule: Replacing) -> Iterator[int]:
    inside, wanted = (_lower(text), _lower(rule.find)) if rule.ignore_case else (text, rule.find)
    start = inside.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        if rule.whole_word and (_is_word(text[start - 1 : start]) or _is_word(text[end : end + 1])):
            end = start + 1
        else:
            yield start
        start = inside.find(wanted, end)


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


def _lower(text: str) -> str:
    """Of the same length: the few letters that are two in lower case stay as they are."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(char.lower() if len(char.lower()) == 1 else char for char in text)


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
