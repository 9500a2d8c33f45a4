"""The files of a dataset's download: images and captions, in a layout that trainers read."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from core.domain.dataset import DatasetManifest, ManifestImage, is_image_name, stem_of
from core.domain.filenames import fold
from core.domain.layouts import read_place
from core.domain.revision import find_free_name

Layout = Literal["kohya", "imagefolder"]
CLASS_FOLDER = "reg"


@dataclass(frozen=True)
class DownloadedFile:
    """``content`` is an image in storage, or the bytes themselves."""

    name: str
    content: ManifestImage | bytes


def list_files(manifest: DatasetManifest, layout: Layout, folder: str) -> list[DownloadedFile]:
    """``folder``: the name of a kohya folder for images that are not in one yet."""
    if layout == "imagefolder":
        return _list_imagefolder(manifest.images)
    return _list_kohya(manifest.images, folder)


def _list_imagefolder(images: Sequence[ManifestImage]) -> list[DownloadedFile]:
    """Hugging Face's: names as in the dataset, captions in metadata.jsonl; an empty text means none."""
    named = _name_apart((_as_png(image.name), image) for image in images)
    rows = [{"file_name": name, "text": image.caption or ""} for name, image in named]
    metadata = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    return [DownloadedFile("metadata.jsonl", metadata.encode()), *(DownloadedFile(*one) for one in named)]


def _list_kohya(images: Sequence[ManifestImage], folder: str) -> list[DownloadedFile]:
    """sd-scripts': a caption is a text beside its image."""
    files: list[DownloadedFile] = []
    for name, image in _name_apart((_place(image, folder), image) for image in images):
        files.append(DownloadedFile(name, image))
        if image.caption is not None:
            files.append(DownloadedFile(f"{stem_of(name)}.txt", image.caption.encode()))
    return files


def _place(image: ManifestImage, folder: str) -> str:
    """Where it is already, if that is directly in a folder that states its repeats and its role."""
    path = PurePosixPath(_as_png(image.name))
    place = read_place(path.name if path.parent == PurePosixPath() else f"{path.parent.name}/{path.name}")
    whole = read_place(str(path))
    if place.class_text is not None and (whole.role, place.repeats) == (image.role, image.repeats):
        return str(path)
    kohya = f"{image.repeats}_{folder}/{'_'.join(path.parts)}"
    return kohya if image.role == "subject" else f"{CLASS_FOLDER}/{kohya}"


def _as_png(name: str) -> str:
    """All stored images are PNG."""
    if PurePosixPath(name).suffix.lower() == ".png":
        return name
    return f"{stem_of(name) if is_image_name(name) else name}.png"


def _name_apart(wanted: Iterable[tuple[str, ManifestImage]]) -> list[tuple[str, ManifestImage]]:
    """``a.jpg`` makes way for ``a.png``: images that already have their name keep it."""
    pairs, taken, names = list(wanted), set[str](), dict[str, str]()
    for name, image in sorted(pairs, key=lambda pair: pair[0] != pair[1].name):
        names[image.name] = find_free_name(name, taken)
        taken.add(fold(names[image.name]))
    return [(names[image.name], image) for _, image in pairs]
