"""Which caption belongs to which image of a set.

A caption file beside the image comes first. A row of a metadata file belongs to the file that it names, by its path
from the metadata file's own folder, as in Hugging Face's imagefolder: ``a.png`` at the top is not ``dogs/a.png``. Other
ways of writing the same path are understood; if the path leads nowhere, a few ways in which sets are moved are tried,
at most one image may match, and the guess is reported.
"""

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote

from core.domain.dataset import ARCHIVE_SUFFIXES, CAPTION_SUFFIXES, clean_caption, is_image_name, stem_of
from core.domain.metadata import Row

MAX_PATH_CHARS = 1000

_DRIVE = re.compile(r"^[A-Za-z]:/*")
GUESSED = 3
"""From this rank on, the match of a row is a guess."""


@dataclass(frozen=True)
class Guess:
    """A row whose path names no file of the set, and the image that was guessed for it."""

    row: Row
    image: str


@dataclass(frozen=True)
class Unmatched:
    """A row whose caption is not used, and why."""

    row: Row
    reason: str


@dataclass(frozen=True)
class Pairing:
    """``captions`` has every image; ``unused`` are caption files that are no image's caption."""

    captions: dict[str, str | None]
    unused: list[str]
    unmatched: list[Unmatched]
    guesses: list[Guess]


def spell(name: str) -> str:
    """A path in one form: some systems separate accents from their letters, some write backslashes."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def pair_captions(
    images: Iterable[str],
    text_files: Mapping[str, str],
    rows: Iterable[Row] = (),
    archives: Mapping[str, str] | None = None,
) -> Pairing:
    """``text_files``: name -> text. ``archives``: the prefix of the names from an archive -> the archive's name."""
    names = list(images)
    from_rows, unmatched, guesses = _match_rows(names, list(rows), archives or {})
    texts = _Texts(text_files)
    captions = {name: clean_caption(texts.find(name) or from_rows.get(name, "")) for name in names}
    return Pairing(captions, texts.list_unused(), unmatched, guesses)


class _Texts:
    """Caption files by the name that they belong to: ``x.txt`` or ``x.caption`` (kohya's default) for ``x.png``."""

    def __init__(self, text_files: Mapping[str, str]) -> None:
        self._texts = text_files
        self._unused = set(text_files)
        self._exact: dict[str, list[str]] = defaultdict(list)
        self._folded: dict[str, set[str]] = defaultdict(set)
        for name in sorted(text_files, key=_order_of_caption):
            stem = spell(stem_of(name))
            self._exact[stem].append(name)
            self._folded[stem.casefold()].add(stem)

    def find(self, image: str) -> str | None:
        """The first that is not empty. ``x.png.txt`` counts too, and another case if there is only one such."""
        for stem in (spell(stem_of(image)), spell(image)):
            folded = self._folded.get(stem.casefold(), set())
            found = self._exact.get(stem) or (self._exact[next(iter(folded))] if len(folded) == 1 else [])
            if found:
                chosen = next((name for name in found if self._texts[name].strip()), found[0])
                self._unused -= {name for name in found if name == chosen or not self._texts[name].strip()}
                return self._texts[chosen]
        return None

    def list_unused(self) -> list[str]:
        return sorted(self._unused)


def _order_of_caption(name: str) -> tuple[int, str]:
    suffix = PurePosixPath(name).suffix.lower()
    return (CAPTION_SUFFIXES.index(suffix) if suffix in CAPTION_SUFFIXES else len(CAPTION_SUFFIXES), name)


# --- rows ------------------------------------------------------------------------------------------------


def _match_rows(
    images: Sequence[str], rows: Sequence[Row], archives: Mapping[str, str]
) -> tuple[dict[str, str], list[Unmatched], list[Guess]]:
    places = _Places(images, archives)
    claims: dict[str, list[tuple[int, Row]]] = defaultdict(list)
    unmatched: list[Unmatched] = []
    for row in rows:
        found = places.find(row)
        if found is None:
            unmatched.append(Unmatched(row, "no image of the set has this path"))
        else:
            claims[found[1]].append((found[0], row))
    captions: dict[str, str] = {}
    guesses: list[Guess] = []
    for image, claimed in claims.items():
        rank, chosen, others = _settle(claimed)
        unmatched += [Unmatched(other, "another row names the same image") for other in others]
        if chosen is not None:
            captions[image] = chosen.caption
            guesses += [Guess(chosen, image)] if rank >= GUESSED else []
    return captions, sorted(unmatched, key=lambda item: (item.row.source, item.row.line)), guesses


def _settle(claimed: Sequence[tuple[int, Row]]) -> tuple[int, Row | None, list[Row]]:
    """The row that gives an image its caption, with its rank, and the contradicting rows. The best rank wins, then the
    nearest metadata file, then the last row; several guesses cancel each other."""
    best = max(claimed, key=lambda claim: (-claim[0], claim[1].source.count("/"), claim[1].line))
    others = [row for _, row in claimed if row.caption != best[1].caption]
    if best[0] >= GUESSED and any(rank == best[0] for rank, row in claimed if row in others):
        return best[0], None, [row for _, row in claimed]
    return best[0], best[1], others


class _Places:
    """The images of a set by their paths, in the forms in which a row may name them."""

    def __init__(self, images: Sequence[str], archives: Mapping[str, str]) -> None:
        self._exact = {spell(name): name for name in images}
        self._folded = _gather((path.casefold(), name) for path, name in self._exact.items())
        self._stems = _gather((stem_of(path).casefold(), name) for path, name in self._exact.items())
        self._folders = {str(parent).casefold() for path in self._exact for parent in PurePosixPath(path).parents}
        self._roots = {"", *(spell(prefix).rstrip("/") for prefix in archives)}
        self._aliases = _gather(pair for prefix in archives for pair in _list_aliases(prefix, archives[prefix], images))

    def find(self, row: Row) -> tuple[int, str] | None:
        """The image that a row names, and how surely: the lower, the surer."""
        if len(row.file_name) > MAX_PATH_CHARS:  # no file has such a name, and each of its folders would be looked up
            return None
        folder, forms = _parent(spell(row.source)), _list_forms(row.file_name)
        for rank, look in enumerate((self._from_folder, self._from_above, self._by_alias, self._by_habit)):
            for form in forms:
                for image in look(folder, form):
                    return rank, image
        return None

    def _from_folder(self, folder: str, form: str) -> Iterator[str]:
        yield from self._look_up(_join(folder, form))

    def _from_above(self, folder: str, form: str) -> Iterator[str]:
        """``train/a.png`` in train/metadata.jsonl."""
        for above in _list_parents(folder):
            path = _join(above, form)
            if path.startswith(f"{folder}/"):
                yield from self._look_up(path)

    def _by_alias(self, folder: str, form: str) -> Iterator[str]:
        """From the top of an archive, or beside it."""
        if folder in self._roots:
            within = f"{folder}/" if folder else ""
            found = {image for image in self._aliases.get(form, ()) if spell(image).startswith(within)}
            yield from found if len(found) == 1 else ()

    def _by_habit(self, folder: str, form: str) -> Iterator[str]:
        """In another case; without the suffix; under a folder that the set does not have, such as another machine's."""
        yield from self._only(self._folded, _join(folder, form))
        if not is_image_name(form):
            yield from self._only(self._stems, _join(folder, form))
        parts = form.split("/")
        if ".." not in parts and _join(folder, parts[0]).casefold() not in self._folders:
            for start in range(1, len(parts)):
                yield from self._only(self._folded, _join(folder, "/".join(parts[start:])))

    def _look_up(self, path: str) -> Iterator[str]:
        if path in self._exact:
            yield self._exact[path]

    def _only(self, index: Mapping[str, set[str]], path: str) -> Iterator[str]:
        found = index.get(path.casefold(), set())
        yield from found if len(found) == 1 else ()


def _list_forms(file_name: str) -> list[str]:
    """The path as it is written, and with its URL escapes decoded; for an absolute path, the part below its root."""
    written = [spell(file_name), spell(unquote(file_name, errors="replace"))]
    forms = [_DRIVE.sub("", form.removeprefix("file://")).lstrip("/") for form in written]
    return list(dict.fromkeys(posixpath.normpath(form) for form in forms if form))


def _join(folder: str, form: str) -> str:
    return posixpath.normpath(posixpath.join(folder, form))


def _list_aliases(prefix: str, archive: str, images: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The names of an archive's images after it was unpacked, or when the folder was zipped with them.

    ``train/a.png`` for a.png of train.zip; for a metadata file that was sent beside the archive ``a.png``, even if
    all of the archive is in one folder.
    """
    inner = {name: spell(name[len(prefix) :]) for name in images if name.startswith(prefix)}
    tops = {path.split("/")[0] if "/" in path else "" for path in inner.values()}
    top = next(iter(tops)) if len(tops) == 1 else ""
    for name, path in inner.items():
        yield f"{_strip_archive_suffix(archive)}/{path}", name
        if prefix:
            yield path, name
        if prefix and top:
            yield path[len(top) + 1 :], name


def _strip_archive_suffix(archive: str) -> str:
    name = spell(archive).rpartition("/")[2]
    return next((name[: -len(suffix)] for suffix in ARCHIVE_SUFFIXES if name.lower().endswith(suffix)), name)


def _gather(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    gathered: dict[str, set[str]] = defaultdict(set)
    for key, name in pairs:
        gathered[key].add(name)
    return dict(gathered)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _list_parents(folder: str) -> list[str]:
    parts = folder.split("/") if folder else []
    return ["/".join(parts[:count]) for count in range(len(parts))]
