"""The prompts of the samples if a spec names none."""

from collections.abc import Sequence
from itertools import takewhile

from core.domain.captions import find_phrase
from core.domain.model import ModelInfo
from core.domain.spec import Preset

CAPTIONS_SHOWN = 3
STYLE_CAPTIONS_SHOWN, STYLE_PROMPTS_SHOWN = 2, 3


def default_prompts(model: ModelInfo, preset: Preset, trigger: str, captions: Sequence[str]) -> tuple[str, ...]:
    """The model's examples with the trigger in them. Without a trigger the set's own captions are the prompts. A style
    is shown on two of the set's things, on three others that the model knows, and once without its trigger."""
    own = tuple(dict.fromkeys(caption for caption in captions if caption))
    if not trigger:
        return (*own[:CAPTIONS_SHOWN], *(prompt for prompt in model.example_prompts if "{trigger}" not in prompt))
    if preset == "style" and (called := [caption for caption in own if _find(caption, trigger) is not None]):
        others = model.neutral_prompts[:STYLE_PROMPTS_SHOWN]
        styled = (call_style(prompt, trigger, called) for prompt in others)
        return (*called[:STYLE_CAPTIONS_SHOWN], *styled, *model.neutral_prompts[:1])
    return model.example_prompts or ("{trigger}",)


def put_trigger(prompt: str, trigger: str) -> str:
    return prompt.replace("{trigger}", trigger).strip()


def call_style(prompt: str, trigger: str, captions: Sequence[str]) -> str:
    """``prompt`` with the trigger where the set's captions have it: in a phrase at their end ("…, in zog style"), or
    after the words that precede it ("a large zog cat": "a large zog dog")."""
    phrase = _ending(trigger, captions)
    if phrase:
        return prompt.rstrip(" .,") + phrase
    before = {word for caption in captions for word in caption.split()[: _find(caption, trigger) or 0]}
    words = prompt.split()
    place = next((index for index, word in enumerate(words) if word not in before), 0)
    first = captions[0].split()
    comma = "," if first[(_find(captions[0], trigger) or 0) + len(trigger.split()) - 1].endswith(",") else ""
    return " ".join([*words[:place], trigger + comma, *words[place:]])


def call_plainly(trigger: str, captions: Sequence[str]) -> list[str]:
    """Each caption without the trigger, or without the phrase at their end that contains it; "" where nothing is left,
    or where the caption does not have it."""
    phrase = (_ending(trigger, [each for each in captions if find_phrase(each, trigger)]) or "").lstrip(", ")
    plain = [_without(caption, phrase if phrase and caption.endswith(phrase) else trigger) for caption in captions]
    return ["" if find_phrase(text, trigger) else text for text in plain]


def _without(caption: str, phrase: str) -> str:
    if (found := find_phrase(caption, phrase)) is None:
        return ""
    before, behind = caption[: found.start()].strip(" ,"), caption[found.end() :].strip(" ,")
    return f"{before} {behind}".strip()


def _ending(trigger: str, captions: Sequence[str]) -> str | None:
    """The common end of all captions, from its comma or space on, if it contains the trigger."""
    if len(captions) < 2:
        return None
    from_the_end = zip(*(reversed(caption.split()) for caption in captions), strict=False)
    common = [words[0] for words in takewhile(lambda words: len(set(words)) == 1, from_the_end)]
    phrase = " ".join(reversed(common))
    if not find_phrase(phrase, trigger):
        return None
    before = [words[-len(common) - 1] for words in map(str.split, captions) if len(words) > len(common)]
    return f"{',' if any(word.endswith(',') for word in before) else ''} {phrase}"


def _find(text: str, trigger: str) -> int | None:
    """The index of the word that the trigger begins in."""
    found = find_phrase(text, trigger)
    return len(text[: found.start()].split()) if found else None
