"""Tracks every file of a set until there is a decision about it, so that none is forgotten."""

from collections import Counter
from collections.abc import Iterable
from enum import Enum, auto

from core.domain.file_counts import FileCounts


class Fate(Enum):
    """The decision about a file."""

    IMAGE = auto()
    CAPTION = auto()
    MASK = auto()
    LEFT_OUT = auto()


class Ledger:
    """Each file is entered once, by its name in the set, and settled."""

    def __init__(self) -> None:
        self._fates: dict[str, Fate | None] = {}
        self._num_litter = 0

    @property
    def num_entered(self) -> int:
        """Without litter."""
        return len(self._fates)

    def enter(self, name: str) -> None:
        assert name not in self._fates, f"{name!r} is entered a second time"
        self._fates[name] = None

    def knows(self, name: str) -> bool:
        return name in self._fates

    def pass_over(self, num_files: int = 1) -> None:
        """Litter."""
        self._num_litter += num_files

    def settle(self, names: Iterable[str], fate: Fate) -> None:
        """A settled file stays as it is, unless it is left out now."""
        for name in names:
            if fate is Fate.LEFT_OUT or self._fates[name] is None:
                self._fates[name] = fate

    def list_unsettled(self) -> list[str]:
        return [name for name, fate in self._fates.items() if fate is None]

    def count(self) -> FileCounts:
        """Raises ValidationError if the counts do not add up."""
        counted = Counter(self._fates.values())
        return FileCounts(
            received=len(self._fates) + self._num_litter,
            images=counted[Fate.IMAGE],
            captions=counted[Fate.CAPTION],
            masks=counted[Fate.MASK],
            left_out=counted[Fate.LEFT_OUT],
            litter=self._num_litter,
            unexamined=counted[None],
        )
