"""Decides about every file of a dataset: an image of the manifest, its caption, or left out with a reason."""

import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path, PurePosixPath
from typing import NoReturn

from core.db.dataset_claims import ReceivedFile
from core.domain.artifacts import image_key
from core.domain.dataset import ManifestImage, is_archive_name, is_image_name
from core.domain.errors import ArchiveRejected, DatasetRejected, UserError
from core.domain.filenames import is_hidden_twin, is_os_metadata
from core.domain.image_formats import ACCEPTED, HEAD_BYTES, recognise_format
from core.domain.layouts import Layout, Place, read_layout
from core.domain.metadata import is_metadata_name
from core.domain.pairing import spell
from core.storage import ObjectNotFound, Storage
from worker.datasets.archives import NOT_USABLE, Contents, is_usable_name
from worker.datasets.captions import (
    MAX_CAPTION_BYTES,
    MAX_CAPTIONS_BYTES,
    MAX_METADATA_BYTES,
    read_captions,
)
from worker.datasets.findings import Findings
from worker.datasets.images import ConvertedImage, Unusable
from worker.datasets.ledger import Fate
from worker.datasets.sandbox import DecoderDied, Sandbox
from worker.datasets.thumbnails import store_thumbnail

log = logging.getLogger(__name__)

MAX_DECODER_DEATHS = 20
MAX_FILES = 20_000
"""For a set, including files in archives."""
MAX_REASONS_SHOWN = 3
_WHAT_TO_DO = f"Upload {ACCEPTED} images, loose or in a .zip or .tar archive."


class Examination:
    """One dataset, from uploaded files to stored images. ``check`` is called between files, and may raise."""

    def __init__(
        self,
        dataset_id: str,
        storage: Storage,
        sandbox: Sandbox,
        scratch: Path,
        *,
        max_images: int,
        check: Callable[[], None],
        fetched: Mapping[str, Path] | None = None,
    ) -> None:
        """``fetched``: the files that are in the scratch folder already and not in storage, by name."""
        self.findings = Findings()
        self._fetched = fetched or {}
        self._dataset_id, self._storage, self._sandbox, self._scratch = dataset_id, storage, sandbox, scratch
        self._max_images, self._check = max_images, check
        self._archives: dict[str, str] = {}  # the prefix of the names from each -> its name
        self._num_paths = 0
        self._num_deaths = 0
        self._num_unpacked_bytes = 0
        self._images_of_other_names: set[str] = set()

    def run(self, received: Iterable[ReceivedFile]) -> None:
        """Raises UserError for an unusable set; ScratchFailed and StorageError for failures outside of the set."""
        files = self._collect(list(received))
        pictures = sorted(name for name in files if self._is_image_file(name))
        layout = self._read_layout(pictures)
        captions = self._read_captions(files, pictures, layout.images)
        for name, place in layout.places.items():
            self._check()
            mask = files[layout.masks[name]] if name in layout.masks else None
            self._take_image(name, files[name], mask, captions[name] or place.class_text, place)
        self.findings.settle_rest()
        if not self.findings.images:
            self._reject_without_images()
        self._refuse_without_subject()

    def _new_path(self) -> Path:
        self._num_paths += 1
        return self._scratch / f"{self._num_paths:06d}"

    # --- from storage and out of archives ----------------------------------------------------------------

    def _collect(self, received: list[ReceivedFile]) -> dict[str, Path]:
        """Name -> its local path. Names from an archive that was sent with others begin with the archive's name."""
        files: dict[str, Path] = {}
        for number, file in enumerate(received):
            self._check()
            num_done = number
            try:
                if is_archive_name(file.filename):
                    prefix = f"{spell(file.filename)}/" if len(received) > 1 else ""
                    self._archives[prefix] = spell(file.filename)
                    contents = self._expand(file, prefix)
                    num_done += 1  # its contents are counted from here on, and not the archive
                    self._check_totals(file.filename, contents.values())
                    files |= contents
                else:
                    files |= self._take_loose(file)
            except UserError:
                self._enter_unexamined(received[num_done:])
                raise
        return files

    def _enter_unexamined(self, received: list[ReceivedFile]) -> None:
        """For a rejected set; an archive counts as one."""
        for file in received:
            name = spell(file.filename)
            if is_os_metadata(name):
                self.findings.ledger.pass_over()
            elif not self.findings.ledger.knows(name):
                self.findings.ledger.enter(name)

    def _take_loose(self, file: ReceivedFile) -> dict[str, Path]:
        """By its name with composed accents, as the names in archives, captions and metadata.jsonl have them."""
        name = spell(file.filename)
        if is_os_metadata(name) and not is_hidden_twin(name):
            self.findings.ledger.pass_over()
            return {}
        path = self._fetch(file)
        is_image = _begins_as_image(path)
        if is_image or (is_usable_name(name) and not is_os_metadata(name)):
            return self._enter(name, path, None)
        path.unlink()
        if is_os_metadata(name):
            self.findings.ledger.pass_over()
            return {}
        return self._enter(name, None, NOT_USABLE)

    def _enter(self, name: str, path: Path | None, problem: str | None) -> dict[str, Path]:
        """A file of the set, unless it is unusable. The second of one name would replace the first."""
        if self.findings.ledger.knows(name):
            self.findings.ledger.enter(name := self._find_free_name(name))
            path, problem = None, "Another file of the set has the same name. Rename one of them."
        else:
            self.findings.ledger.enter(name)
        if path is None:
            self.findings.leave_out(name, problem or NOT_USABLE)
            return {}
        if not is_usable_name(name):
            self._images_of_other_names.add(name)
        return {name: path}

    def _is_image_file(self, name: str) -> bool:
        """By its name or, if that says nothing, by its content."""
        return is_image_name(name) or name in self._images_of_other_names

    def _find_free_name(self, name: str) -> str:
        names = (f"{name} ({number})" for number in count(2))
        return next(free for free in names if not self.findings.ledger.knows(free))

    def _fetch(self, file: ReceivedFile) -> Path:
        if file.filename in self._fetched:
            return self._fetched[file.filename]
        path = self._new_path()
        try:
            fetched = self._storage.fetch(file.key, path)
        except ObjectNotFound as error:
            raise DatasetRejected(f"{file.filename} is no longer in storage. Upload it again.") from error
        if fetched.sha256 != file.sha256:
            raise DatasetRejected(f"{file.filename} changed since it was uploaded. Upload it again.")
        return path

    def _expand(self, file: ReceivedFile, prefix: str) -> dict[str, Path]:
        archive, folder = self._fetch(file), self._new_path()
        folder.mkdir()
        try:
            contents = self._sandbox.expand(archive, file.filename, folder)
        except ArchiveRejected as error:
            raise ArchiveRejected(f"{file.filename}: {error.detail}") from error
        except DecoderDied as error:
            log.warning("%s: unpacking %s killed the decoder: %s", self._dataset_id, file.key, error)
            raise ArchiveRejected(
                f"{file.filename}: Unpacking it takes too long or too much memory. Split it."
            ) from error
        archive.unlink()
        (folder / "archive.tar").unlink(missing_ok=True)
        unpacked = self._enter_contents(contents, folder, prefix)
        if contents.names_read_as:
            self.findings.note_guessed_names(file.filename, contents.names_read_as, unpacked)
        return unpacked

    def _enter_contents(self, contents: Contents, folder: Path, prefix: str) -> dict[str, Path]:
        self.findings.ledger.pass_over(contents.num_litter)
        unpacked: dict[str, Path] = {}
        for entry in contents.entries:
            path = folder / entry.written_as if entry.written_as else None
            unpacked |= self._enter(prefix + entry.name, path, entry.problem)
        return unpacked

    def _check_totals(self, filename: str, unpacked: Iterable[Path]) -> None:
        """The limits of one archive apply to several together."""
        self._num_unpacked_bytes += sum(path.stat().st_size for path in unpacked)
        if self.findings.num_files > MAX_FILES:
            raise ArchiveRejected(f"{filename}: With it the set has more than {MAX_FILES:,} files. Split the set.")
        if self._num_unpacked_bytes > self._sandbox.max_total_bytes:
            most = self._sandbox.max_total_bytes
            raise ArchiveRejected(f"{filename}: With it the archives hold more than {most:,} bytes. Split the set.")

    # --- captions ------------------------------------------------------------------------------------------

    def _read_layout(self, pictures: list[str]) -> Layout:
        layout = read_layout(pictures)
        self._check_number(layout.images)
        for name, reason in layout.left_out.items():
            self.findings.leave_out(name, reason)
        self.findings.ledger.settle(layout.masks.values(), Fate.MASK)
        self.findings.notes += layout.notes
        return layout

    def _read_captions(self, files: dict[str, Path], pictures: list[str], images: list[str]) -> dict[str, str | None]:
        texts: dict[str, bytes] = {}
        metadata: dict[str, bytes] = {}
        room = MAX_CAPTIONS_BYTES
        for name in sorted(set(files) - set(pictures)):
            is_metadata = is_metadata_name(name)
            max_bytes, kind = (MAX_METADATA_BYTES, "metadata") if is_metadata else (MAX_CAPTION_BYTES, "a caption")
            size = files[name].stat().st_size
            if size > max_bytes:
                self.findings.leave_out(name, f"It is larger than {max_bytes:,} bytes, too large for {kind}.")
                continue
            if _begins_as_image(files[name]):
                self.findings.leave_out(name, "It is an image, but named as a caption: give it an image's suffix.")
                continue
            room -= size
            if room < 0:
                self.findings.leave_out(name, f"All captions together are larger than {MAX_CAPTIONS_BYTES:,} bytes.")
            else:
                (metadata if is_metadata_name(name) else texts)[name] = files[name].read_bytes()
        self.findings.ledger.settle([*texts, *metadata], Fate.CAPTION)
        found = read_captions(images, texts, metadata, self._archives)
        for name, problem in found.problems.items():
            if name in found.with_rows:
                self.findings.warn("metadata-problems", f"A part of {name} was not used: {problem}", name)
            else:
                self.findings.leave_out(name, problem)
        self.findings.unused_captions = found.pairing.unused
        self.findings.doubts += found.doubts
        return found.pairing.captions

    # --- images --------------------------------------------------------------------------------------------

    def _check_number(self, images: list[str]) -> None:
        if len(images) > self._max_images:
            raise DatasetRejected(
                f"The set has {len(images):,} images; the limit is {self._max_images:,}. Remove some, or split it."
            )

    def _take_image(self, name: str, source: Path, mask: Path | None, caption: str | None, place: Place) -> None:
        target, thumbnail = self._new_path(), self._new_path()
        try:
            image = self._convert(source, target, mask, thumbnail)
            self._refuse_duplicate(image)
            self.findings.take(self._store(name, image, target, thumbnail, caption, place), image.notes)
        except Unusable as error:
            self.findings.leave_out(name, str(error))
        finally:
            source.unlink()
            target.unlink(missing_ok=True)
            thumbnail.unlink(missing_ok=True)

    def _convert(self, source: Path, target: Path, mask: Path | None, thumbnail: Path) -> ConvertedImage:
        """Raises Unusable, or DatasetRejected if the decoder died too often."""
        try:
            return self._sandbox.convert(source, target, mask, thumbnail)
        except DecoderDied as error:
            log.warning("%s: an image killed the decoder: %s", self._dataset_id, error)
            self._num_deaths += 1
            if self._num_deaths >= MAX_DECODER_DEATHS:
                raise DatasetRejected(
                    f"{MAX_DECODER_DEATHS} of its images take too long or too much memory to open. Make them smaller."
                ) from error
            raise Unusable("Opening it takes too long or too much memory: make it smaller.") from error

    def _refuse_duplicate(self, image: ConvertedImage) -> None:
        for other in self.findings.images:
            if other.sha256 == image.sha256:
                raise Unusable(f"It has exactly the same pixels as {other.name}.")

    def _store(
        self, name: str, image: ConvertedImage, path: Path, thumbnail: Path, caption: str | None, place: Place
    ) -> ManifestImage:
        key = image_key(self._dataset_id, image.sha256)
        stored = self._storage.put_file(key, path, content_type="image/png")
        return ManifestImage(
            name=name,
            key=key,
            sha256=stored.sha256,
            size=stored.size,
            width=image.width,
            height=image.height,
            caption=caption,
            dhash=image.dhash,
            sharpness=image.sharpness,
            masked=image.masked,
            role=place.role,
            repeats=place.repeats,
            thumbnail=store_thumbnail(self._storage, self._dataset_id, image.sha256, thumbnail),
        )

    def _refuse_without_subject(self) -> None:
        if all(image.role == "class" for image in self.findings.images):
            folder = str(PurePosixPath(self.findings.images[0].name).parent)
            raise DatasetRejected(
                f"All of its images are for regularisation by their folder ({folder}), and none shows the subject. Add "
                "the subject's images beside that folder, or give it another name."
            )

    def _reject_without_images(self) -> NoReturn:
        if self.findings.num_files == 0:
            raise DatasetRejected(f"The set contains no file. {_WHAT_TO_DO}")
        reasons = [f"{item.file}: {item.reason}" for item in self.findings.left_out if self._is_image_file(item.file)]
        if not reasons:
            summary = _say_none(self.findings.num_files, "file", "is not an image", "is an image")
            raise DatasetRejected(f"{summary} {_WHAT_TO_DO}")
        summary = _say_none(len(reasons), "image", "cannot be used", "can be used")
        raise DatasetRejected(" ".join([summary, *reasons[:MAX_REASONS_SHOWN]]))


def _say_none(number: int, noun: str, not_one: str, one: str) -> str:
    return f"Its only {noun} {not_one}." if number == 1 else f"None of its {number:,} {noun}s {one}."


def _begins_as_image(path: Path) -> bool:
    with path.open("rb") as file:
        return recognise_format(file.read(HEAD_BYTES)) is not None
