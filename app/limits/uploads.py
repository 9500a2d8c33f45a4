"""Limits how many bodies of one tenant are stored at the same time: each holds a thread while its client sends."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from core.domain.counts import counted
from core.domain.errors import QuotaExceeded

RETRY_SECONDS = 5


class UploadLimiter:
    """Per process."""

    def __init__(self, num_places: int) -> None:
        self._num_places = num_places
        self._taken: Counter[str] = Counter()

    def count(self, tenant_id: str) -> int:
        """The number of running uploads."""
        return self._taken[tenant_id]

    @contextmanager
    def take(self, tenant_id: str) -> Iterator[None]:
        """Raises QuotaExceeded."""
        if self._taken[tenant_id] >= self._num_places:
            raise QuotaExceeded(
                f"Upload limit reached: {self._num_places} of {counted(self._num_places, 'upload')} "
                f"{'is' if self._num_places == 1 else 'are'} under way. Wait until one has ended.",
                retry_after_seconds=RETRY_SECONDS,
            )
        self._taken[tenant_id] += 1
        try:
            yield
        finally:
            self._taken[tenant_id] -= 1
            if not self._taken[tenant_id]:
                del self._taken[tenant_id]
