"""Texts that are longer than a text encoder's input.

As in sd-scripts' ``max_token_length`` (``_get_input_ids`` in library/strategy_base.py, ``encode_tokens`` in
the strategies beside it): the tokens are cut into chunks, each is encoded alone between its start and end
tokens, and their states are joined, with the first chunk's start token and the last one's end token. The pooled state
is the first chunk's. A text of one chunk is encoded as usual.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from core.domain.captions import find_phrase
from core.domain.plan import TrainPlan
from core.domain.tokens import TOKENS_PER_CHUNK
from worker.engine.errors import BadInput
from worker.engine.families.protocol import TextLimits

Ends = tuple[int, int, int]
"""The tokens that start, end and pad a chunk."""


def limits_of(plan: TrainPlan) -> TextLimits:
    return TextLimits(plan.max_token_length // TOKENS_PER_CHUNK, plan.trigger)


def split_tokens(tokens: Sequence[int], num_chunks: int, length: int, ends: Ends) -> list[list[int]]:
    """Rows of ``length`` tokens, start and end included; the rest after the last chunk is cut."""
    begin, end, fill = ends
    room = length - 2
    parts = [tokens[start : start + room] for start in range(0, num_chunks * room, room)]
    return [[begin, *part, end, *[fill] * (room - len(part))] for part in parts]


def count_chunks(num_tokens: int, room: int, limits: TextLimits) -> int:
    return max(1, min(limits.num_chunks, -(-num_tokens // room)))


@dataclass(frozen=True)
class Reading:
    """An encoder's output for several texts, chunk by chunk (N rows), and the number of chunks of each text."""

    answer: Any
    num_chunks: Sequence[int]

    def join(self, states_NTD: torch.Tensor) -> list[torch.Tensor]:
        """(T', D) for each text: all of its chunks between one start and one end."""
        return [_join(chunks_NTD) for chunks_NTD in torch.split(states_NTD, list(self.num_chunks))]

    def pick_first(self, pooled_ND: torch.Tensor) -> list[torch.Tensor]:
        """(D,) for each text: its first chunk's."""
        return [chunks_ND[0] for chunks_ND in torch.split(pooled_ND, list(self.num_chunks))]


def _join(chunks_NTD: torch.Tensor) -> torch.Tensor:
    if len(chunks_NTD) == 1:
        return chunks_NTD[0]
    return torch.cat([chunks_NTD[0, :1], chunks_NTD[:, 1:-1].flatten(0, 1), chunks_NTD[-1, -1:]])


def lengthen_empty(states_TD: torch.Tensor, length: int) -> torch.Tensor:
    """The states of an empty text of one chunk, extended to several, which are all the same."""
    inner_TD = states_TD[1:-1]
    return torch.cat([states_TD[:1], inner_TD.repeat((length - 2) // len(inner_TD), 1), states_TD[-1:]])


def stack_states(rows_TD: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(B, T, D), and the mask (B, T) of the true states if some texts are shorter: padding is not attended to, so each
    prediction is the same as alone."""
    lengths = [len(row) for row in rows_TD]
    if len(set(lengths)) == 1:
        return torch.stack(list(rows_TD)), None
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.nn.utils.rnn.pad_sequence(list(rows_TD), batch_first=True), mask.to(rows_TD[0].device)


def fit_phrase(text: str, phrase: str, room: int, count: Callable[[str], int]) -> str:
    """The text, with words left out in front of ``phrase`` if it would be cut otherwise. ``count``: its tokens.

    Raises BadInput for a phrase that alone is too long.
    """
    if not phrase or count(text) <= room:
        return text
    found = find_phrase(text, phrase)
    if found is None or count(text[: found.end()]) <= room:
        return text
    if count(found[0]) > room:
        raise BadInput(f"The trigger has {count(found[0])} tokens; the limit is {room}: give a shorter one")
    words = text[: found.start()].split()
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if count(_put_before(words[:middle], found[0], words)) <= room:
            low = middle
        else:
            high = middle - 1
    return _put_before(words[:low], found[0], words) + text[found.end() :]


def _put_before(kept: Sequence[str], phrase: str, words: Sequence[str]) -> str:
    """With a comma, if there was one before the phrase."""
    if not kept:
        return phrase
    comma = "," if words[-1].endswith(",") else ""
    return f"{' '.join(kept).rstrip(',')}{comma} {phrase}"
