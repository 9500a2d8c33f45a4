"""What an examination has found out so far; the report of a rejected set is written from it too."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from core.domain.dataset import (
    DatasetManifest,
    DatasetReport,
    LeftOut,
    ManifestImage,
    ReportWarning,
    WarningCode,
    write_report,
)
from worker.datasets.ledger import Fate, Ledger
from worker.datasets.opening import Note

log = logging.getLogger(__name__)

MAX_NAMES_SHOWN = 100
_UNUSED = "Nothing in the set makes use of it."
_NOTES: Mapping[Note, tuple[WarningCode, str]] = {
    "first-picture": (
        "first-picture",
        "These files move or hold several pictures: the first of each was taken. Export another one by itself "
        "to use it.",
    ),
    "unusable-profile": (
        "unusable-profile",
        "The colour profiles of these are broken, for other kinds of pixels, or of high dynamic range: their colours "
        "were taken as sRGB. If they look wrong, export the pictures as sRGB.",
    ),
}


@dataclass
class Findings:
    images: list[ManifestImage] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    unused_captions: list[str] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    noted: dict[Note, list[str]] = field(default_factory=dict)
    guessed: list[ReportWarning] = field(default_factory=list)
    doubts: list[ReportWarning] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def num_files(self) -> int:
        """Without litter."""
        return self.ledger.num_entered

    def leave_out(self, name: str, reason: str) -> None:
        self.left_out.append(LeftOut(file=name, reason=reason))
        self.ledger.settle([name], Fate.LEFT_OUT)

    def take(self, image: ManifestImage, notes: Iterable[Note]) -> None:
        self.images.append(image)
        self.ledger.settle([image.name], Fate.IMAGE)
        for note in notes:
            self.noted.setdefault(note, []).append(image.name)

    def warn(self, code: WarningCode, message: str, file: str) -> None:
        self.doubts.append(ReportWarning(code=code, message=message, files=(file,)))

    def note_guessed_names(self, archive: str, label: str, names: Iterable[str]) -> None:
        """Of an archive that does not say in which encoding its names are."""
        message = (
            f"{archive} does not say how its file names are written: they were read as {label}. If they look wrong, "
            "make the archive anew with names in UTF-8."
        )
        foreign = tuple(name for name in names if not name.isascii())[:MAX_NAMES_SHOWN]
        self.guessed.append(ReportWarning(code="names-guessed", message=message, files=foreign or (archive,)))

    def settle_rest(self) -> None:
        """At the end. Whatever was forgotten on the way is left out, and said."""
        for name in self.ledger.list_unsettled():
            log.error("nothing was decided about a file of the set")
            self.leave_out(name, _UNUSED)

    def manifest(self) -> DatasetManifest:
        return DatasetManifest(images=tuple(self.images))

    def report(self) -> DatasetReport:
        noted = [
            ReportWarning(code=code, message=message, files=tuple(self.noted[note]))
            for note, (code, message) in _NOTES.items()
            if note in self.noted
        ]
        return write_report(
            self.num_files,
            self.manifest(),
            self.left_out,
            self.unused_captions,
            files=self.ledger.count(),
            noted=[*self.guessed, *noted, *self.doubts],
            notes=self.notes,
        )
