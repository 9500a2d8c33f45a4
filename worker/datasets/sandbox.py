"""Starts the decoder, asks it, and ends it: the boundary between users' files and the worker."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from core.domain.errors import ArchiveRejected
from core.settings import Settings
from worker.datasets.archives import Contents, Entry
from worker.datasets.decoder import DecoderLimits
from worker.datasets.images import ConvertedImage, Unusable
from worker.dialogue import Dialogue, ProgramDied

_BASE_MEMORY_BYTES = 768 << 20
# As decoded, turned upright, with alpha, on paper, and two copies to spare.
_MEMORY_BYTES_PER_PIXEL = 24


class DecoderDied(Exception):
    """It crashed or exceeded a limit. The file in question is at fault; another decoder is started when needed."""


class ScratchFailed(Exception):
    """The disk is full or broken: for the operator, and not a fault of the dataset."""


@dataclass(frozen=True)
class SandboxLimits:
    """The decoder's own limits, and the seconds of wall-clock time after which it is killed."""

    decoder: DecoderLimits
    archive_seconds: float = 900.0
    image_seconds: float = 90.0


def limits_from(settings: Settings) -> SandboxLimits:
    return SandboxLimits(
        DecoderLimits(
            memory_bytes=_BASE_MEMORY_BYTES + _MEMORY_BYTES_PER_PIXEL * settings.max_pixels,
            max_total_bytes=settings.max_upload_bytes,
            max_file_bytes=settings.max_file_bytes,
            max_pixels=settings.max_pixels,
            archive_cpu_seconds=600,
            image_cpu_seconds=60,
        )
    )


class Sandbox:
    """One decoder at a time. ``pulse`` is called twice a second while it works, and may raise to have it killed.

    Use it from a thread that lives as long: the decoder dies with the thread that started it.
    """

    def __init__(self, limits: SandboxLimits, pulse: Callable[[], None]) -> None:
        self._limits, self._pulse = limits, pulse
        self._dialogue: Dialogue | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def max_total_bytes(self) -> int:
        """The most that one archive may unpack to."""
        return self._limits.decoder.max_total_bytes

    @property
    def pid(self) -> int | None:
        return self._dialogue.pid if self._dialogue else None

    def expand(self, archive: Path, filename: str, folder: Path) -> Contents:
        """Writes an archive's usable files into ``folder``. Raises ArchiveRejected, DecoderDied, ScratchFailed."""
        request = {"do": "expand", "archive": str(archive), "filename": filename, "folder": str(folder)}
        answer = self._ask(request, self._limits.archive_seconds)
        if "refused" in answer:
            raise ArchiveRejected(answer["refused"])
        entries = tuple(Entry(**entry) for entry in answer["entries"])
        return Contents(entries, answer["num_litter"], answer["names_read_as"])

    def convert(
        self, source: Path, target: Path, mask: Path | None = None, thumbnail: Path | None = None
    ) -> ConvertedImage:
        """Re-encodes an image as PNG, and writes its ``thumbnail`` if it is larger than one. Raises Unusable,
        DecoderDied, ScratchFailed."""
        return self._ask_for_image("convert", source, target, mask=mask, thumbnail=thumbnail)

    def crop(
        self, source: Path, target: Path, box: tuple[int, int, int, int], thumbnail: Path | None = None
    ) -> ConvertedImage:
        """A part of a stored image: left, top, width and height. ``thumbnail`` and errors as for ``convert``."""
        return self._ask_for_image("crop", source, target, thumbnail=thumbnail, box=box)

    def _ask_for_image(
        self, work: str, source: Path, target: Path, box: tuple[int, int, int, int] | None = None, **files: Path | None
    ) -> ConvertedImage:
        request: dict[str, Any] = {"do": work, "source": str(source), "target": str(target), "box": box}
        request |= {name: str(path) for name, path in files.items() if path is not None}
        answer = self._ask(request, self._limits.image_seconds)
        if "refused" in answer:
            raise Unusable(answer["refused"])
        return ConvertedImage(**{**answer["image"], "notes": tuple(answer["image"]["notes"])})

    def close(self) -> None:
        if self._dialogue is not None:
            self._dialogue.close()
            self._dialogue = None

    def _ask(self, request: dict[str, Any], timeout_seconds: float) -> dict[str, Any]:
        self._dialogue = self._dialogue or self._start()
        try:
            answer: dict[str, Any] = json.loads(self._dialogue.ask(json.dumps(request), timeout_seconds))
        except (ProgramDied, ValueError) as error:
            self.close()
            raise DecoderDied(str(error)) from error
        if "failed" in answer:
            raise ScratchFailed(answer["failed"])
        return answer

    def _start(self) -> Dialogue:
        # One thread each: the libraries' pools would only use up address space.
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        limits = json.dumps(asdict(self._limits.decoder))
        return Dialogue("worker.datasets.decoder", [limits], self._pulse, variables=threads)
