"""Fetches the files of a dataset from addresses that a client named, several at a time, into the scratch folder."""

import asyncio
import contextlib
import hashlib
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from core.db.datasets import NewFile
from core.domain.artifacts import upload_key
from core.domain.dataset import LeftOut, is_archive_name, is_caption_name
from core.domain.errors import DatasetRejected
from core.domain.filenames import fold
from core.domain.metadata import is_metadata_name
from core.domain.revision import find_free_name
from core.domain.sources import accepts_type, name_by_type, name_sources
from core.settings import Settings
from worker.datasets.captions import MAX_CAPTION_BYTES, MAX_METADATA_BYTES
from worker.outgoing import NotSent, Outgoing, SizeLimit

MAX_PARALLEL = 8
MAX_SECONDS = 900.0
"""For all of them together, or slow servers would keep a worker from others' datasets."""
POLL_SECONDS = 0.5
MAX_REASONS_SHOWN = 3


@dataclass
class Fetched:
    """``paths``: where each file is, by its name."""

    files: list[NewFile] = field(default_factory=list)
    paths: dict[str, Path] = field(default_factory=dict)
    failed: list[LeftOut] = field(default_factory=list)


class Sources:
    """``room``: how many bytes the files may have together. ``keep`` gets each file as it arrives. ``check`` is
    called twice a second; both may raise, which ends it all."""

    def __init__(
        self,
        dataset_id: str,
        settings: Settings,
        outgoing: Outgoing,
        folder: Path,
        *,
        room: int,
        keep: Callable[[NewFile], None],
        check: Callable[[], None],
    ) -> None:
        self._dataset_id, self._settings, self._outgoing, self._folder = dataset_id, settings, outgoing, folder
        self._room, self._all_room, self._keep, self._check = room, room, keep, check
        self._fetched, self._taken = Fetched(), set[str]()

    def fetch(self, urls: Sequence[str]) -> Fetched:
        """In the order of the addresses. Raises DatasetRejected if none gave a file, and OSError for the folder."""
        asyncio.run(self._fetch_all(urls))
        self._fetched.failed = _name_failures(urls, {item.file: item.reason for item in self._fetched.failed})
        if not self._fetched.files:
            raise DatasetRejected(describe_failures(self._fetched.failed))
        return self._fetched

    async def _fetch_all(self, urls: Sequence[str]) -> None:
        places, ends_at = asyncio.Semaphore(MAX_PARALLEL), time.monotonic() + MAX_SECONDS
        names = name_sources(urls)
        self._taken = {fold(name) for name in names}
        tasks = [
            asyncio.create_task(self._fetch_one(number, url, name, places, ends_at))
            for number, (url, name) in enumerate(zip(urls, names, strict=True))
        ]
        try:
            waiting: set[asyncio.Task[None]] = set(tasks)
            while waiting:
                done, waiting = await asyncio.wait(waiting, timeout=POLL_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
                for task in done:
                    task.result()
                self._check()
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(BaseException):
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch_one(self, number: int, url: str, name: str, places: asyncio.Semaphore, ends_at: float) -> None:
        path = self._folder / f"source-{number:04d}"
        async with places:
            try:
                if time.monotonic() >= ends_at:
                    raise NotSent(f"the others took longer than {MAX_SECONDS:.0f} s together")
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + ends_at - time.monotonic()):
                    await self._receive(url, name, path)
            except NotSent as error:
                self._leave_out(url, path, str(error))
            except TimeoutError:
                self._leave_out(url, path, f"the others took longer than {MAX_SECONDS:.0f} s together")

    def _leave_out(self, url: str, path: Path, reason: str) -> None:
        path.unlink(missing_ok=True)
        self._fetched.failed.append(LeftOut(file=url, reason=f"It was not fetched: {reason}."))

    async def _receive(self, url: str, name: str, path: Path) -> None:
        """Raises NotSent."""
        digest = hashlib.sha256()
        taken = 0
        with path.open("wb") as file:

            def take(chunk: bytes) -> None:
                nonlocal taken
                if len(chunk) > self._room:
                    raise NotSent(f"with it the set has more than {self._all_room:,} bytes")
                self._room -= len(chunk)
                taken += len(chunk)
                digest.update(chunk)
                file.write(chunk)

            try:
                found = await self._outgoing.fetch(url, take, partial(self._find_limit, name))
            except BaseException:
                self._room += taken
                raise
        if found.size == 0:
            raise NotSent("it is empty")
        file_id, filename = uuid.uuid4().hex, self._finish_name(name, found.media_type)
        key = upload_key(self._dataset_id, file_id)
        new = NewFile(id=file_id, filename=filename, key=key, sha256=digest.hexdigest(), size=found.size)
        self._keep(new)
        self._fetched.files.append(new)
        self._fetched.paths[filename] = path

    def _find_limit(self, name: str, media_type: str) -> SizeLimit | None:
        """As for an upload of that name."""
        if not accepts_type(media_type):
            return None
        name = name_by_type(name, media_type)
        if is_metadata_name(name):
            return SizeLimit(MAX_METADATA_BYTES, "too large for metadata")
        if is_caption_name(name):
            return SizeLimit(MAX_CAPTION_BYTES, "too large for a caption")
        is_archive = is_archive_name(name)
        max_bytes = self._settings.max_upload_bytes if is_archive else self._settings.max_file_bytes
        return SizeLimit(max_bytes, "the limit for one such file")

    def _finish_name(self, name: str, media_type: str) -> str:
        finished = name_by_type(name, media_type)
        if finished != name:
            finished = find_free_name(finished, self._taken)
            self._taken.add(fold(finished))
        return finished


def _name_failures(urls: Sequence[str], reasons: Mapping[str, str]) -> list[LeftOut]:
    """In the order of the addresses, without their queries; those that are then alike have a number."""
    counts = Counter[str]()
    failed = []
    for url in urls:
        if url in reasons:
            shown = hide_query(url)
            counts[shown] += 1
            name = shown if counts[shown] == 1 else f"{shown} ({counts[shown]})"
            failed.append(LeftOut(file=name, reason=reasons[url]))
    return failed


def hide_query(url: str) -> str:
    """The address for a report: signatures and tokens stand in the query."""
    try:
        parts = urlsplit(url)
    except ValueError:  # such as of a bracket without its pair
        return url.partition("?")[0]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def describe_failures(failed: Sequence[LeftOut]) -> str:
    """If all of them failed."""
    reasons = " ".join(f"{item.file}: {item.reason}" for item in failed[:MAX_REASONS_SHOWN])
    return f"None of its {len(failed):,} addresses gave a file. {reasons}" if len(failed) != 1 else reasons
