"""The bases that a trainer keeps in memory between runs."""

import gc
from collections import OrderedDict
from collections.abc import Callable

import torch

from worker.engine.device import available_memory_bytes, free_memory, total_memory_bytes
from worker.engine.families.protocol import Base

Key = tuple[str, str]
"""The base's sha256, and the precision of its weights."""
KEPT_SHARE = 0.5
"""Of the device's memory, for the bases that the current run does not use."""


class WarmBases:
    """The base of the last run, and beside it those used before it, as long as there is memory for them: the least
    recently used goes first."""

    def __init__(self, device: torch.device, *, keeps_others: bool = True) -> None:
        self._device, self._keeps_others = device, keeps_others
        self._bases: OrderedDict[Key, tuple[str, Base]] = OrderedDict()

    def __contains__(self, key: Key) -> bool:
        return key in self._bases

    @property
    def models(self) -> list[str]:
        """Their ids, the last used last."""
        return list(dict.fromkeys(model for model, _ in self._bases.values()))

    @property
    def count(self) -> int:
        return len(self._bases)

    def holds_beside(self, key: Key) -> bool:
        """Whether another base is in memory."""
        return any(other != key for other in self._bases)

    def make_room(self, key: Key, peak_bytes: int | None) -> None:
        """Drops other bases until a run on this one fits beside the rest. ``peak_bytes``: what the run takes with its
        own base; None if nobody knows, and all others go."""
        own = _count_bytes(self._bases[key][1]) if key in self._bases else 0
        for other in [other for other in self._bases if other != key]:
            kept = sum(_count_bytes(base) for kept, (_, base) in self._bases.items() if kept != key)
            if (
                self._keeps_others
                and peak_bytes is not None
                and peak_bytes - own <= available_memory_bytes(self._device)
                and kept <= KEPT_SHARE * total_memory_bytes(self._device)
            ):
                return
            del self._bases[other]
            tidy(self._device)

    def open(self, key: Key, model_id: str, load: Callable[[], Base]) -> Base:
        base = self._bases.pop(key)[1] if key in self._bases else load()
        self._bases[key] = model_id, base
        return base

    def drop_all(self) -> None:
        self._bases.clear()
        tidy(self._device)


def tidy(device: torch.device) -> None:
    """Frees what nobody refers to any more, on the device too."""
    gc.collect()
    free_memory(device)


def _count_bytes(base: Base) -> int:
    return sum(weight.numel() * weight.element_size() for weight in base.denoiser.module.state_dict().values())
