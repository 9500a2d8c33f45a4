"""The findings of an examination so far; the report of a rejected set is written from them too."""

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
_UNUSED = "Nothing in the set uses it."
_NOTES: Mapping[Note, tuple[WarningCode, str]] = {
    "first-frame": (
        "first-frame",
        "These files are animated or contain several images: the first of each was used. To use another one, "
        "export it by itself.",
    ),
    "unusable-profile": (
        "unusable-profile",
        "The colour profiles of these are broken, for other types of pixels, or of high dynamic range: their colours "
        "were read as sRGB. If they look wrong, export the images as sRGB.",
    ),
    "alpha-mask": (
        "alpha-mask",
        "These have transparent parts, which are read as a mask: what is transparent does not count in training. To "
        "train on the background too, export them without transparency.",
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

    def miss(self, failed: Iterable[LeftOut]) -> None:
        """Files that did not arrive: they count as left out."""
        for item in failed:
            self.ledger.enter(item.file)
            self.leave_out(item.file, item.reason)

    def take(self, image: ManifestImage, notes: Iterable[Note]) -> None:
        self.images.append(image)
        self.ledger.settle([image.name], Fate.IMAGE)
        for note in notes:
            self.noted.setdefault(note, []).append(image.name)

    def warn(self, code: WarningCode, message: str, file: str) -> None:
        self.doubts.append(ReportWarning(code=code, message=message, files=(file,)))

    def note_guessed_names(self, archive: str, label: str, names: Iterable[str]) -> None:
        """For an archive that does not state the encoding of its names."""
        message = (
            f"{archive} does not state the encoding of its file names: they were read as {label}. If they look wrong, "
            "create the archive again with names in UTF-8."
        )
        foreign = tuple(name for name in names if not name.isascii())[:MAX_NAMES_SHOWN]
        self.guessed.append(ReportWarning(code="names-guessed", message=message, files=foreign or (archive,)))

    def settle_rest(self) -> None:
        """At the end. Files without a decision are left out, and reported."""
        for name in self.ledger.list_unsettled():
            log.error("a file of the set has no decision")
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
