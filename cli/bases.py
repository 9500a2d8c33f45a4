"""Brings an operator's base to the service: by its Hub id, or by links or a copy in the models directory."""

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.errors import UsageError
from core.domain.model import PARTS
from core.domain.registration import HUB_ID_PATTERN, ID_PATTERN
from core.model_folders import CARD, MADE_HERE, NOTE

SINGLE_FILE = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
WEIGHTS = frozenset({*PICKLES, ".msgpack", ".onnx", ".pb", ".h5", ".xml", SINGLE_FILE})
FOLDERS = (*PARTS, "feature_extractor")
INDEX = "model_index.json"
ADDING = ".adding-"
STALE_SECONDS = 24 * 3600
ROOM_BYTES = 1_000_000_000
"""How much disk space must remain free after the copy of a base."""


@dataclass(frozen=True)
class Placed:
    """``source`` is what the service is asked to register. ``made`` was put into the models directory for it:
    ``on_success`` is removed once the base is ready (it was converted), all of it if the base is rejected."""

    source: dict[str, Any]
    made: tuple[Path, ...] = ()
    on_success: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Placement:
    """``models_path``: the service's, where it is on this machine; None where it is not known here."""

    typed: str
    models_path: Path | None
    url: str
    model_id: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def place(self) -> Placed:
        """Links or copies a base from elsewhere. Raises UsageError, and then leaves nothing behind."""
        path = Path(self.typed).expanduser()
        if path.exists():
            return self._place_local(path.absolute())
        if self.models_path is not None and (self.models_path / self.typed).exists():
            return self._place_local(self.models_path / self.typed)
        if self._is_hub_id():
            return Placed(self._source(hub_id=self.typed))
        if self.models_path is None:  # the service knows the bases in its models directory
            return Placed(self._source(path=self.typed))
        raise UsageError(
            f"There is no file or folder {self.typed}, nor one of that name in the models directory "
            f"{self.models_path}, and it is not a Hub id such as stable-diffusion-v1-5/stable-diffusion-v1-5."
        )

    def _is_hub_id(self) -> bool:
        is_file_name = self.typed.lower().endswith((SINGLE_FILE, *PICKLES))
        return re.match(HUB_ID_PATTERN, self.typed) is not None and not is_file_name

    def _source(self, **where: str) -> dict[str, Any]:
        own = {} if self.model_id is None else {"id": self.model_id}
        return {**where, **own, **self.extra}

    def _place_local(self, path: Path) -> Placed:
        if self.models_path is None:
            raise UsageError(
                f"{path.name} cannot be handed to the service at {self.url}: its models directory is not known here. "
                "Where the service runs on this machine, set ATELIER_HOME to its home; else copy it into the models "
                f"directory there and run this command with its name in that directory, outside of {path.parent}."
            )
        if path.is_dir():
            return self._place_folder(path, self.models_path)
        return self._place_file(path, self.models_path)

    def _place_file(self, path: Path, models_path: Path) -> Placed:
        _refuse_other_files(path)
        inside = _relative_to(path, models_path)
        is_copied = inside is None and not _on_one_disk(path, models_path)
        _refuse_full_disk(models_path, path.stat().st_size * (1 + is_copied), path.name)
        if inside is not None:
            return Placed(self._source(path=inside))
        folder = models_path / f"{ADDING}{secrets.token_hex(4)}"
        fill(folder, [(path, folder / path.name)])
        return Placed(self._source(path=f"{folder.name}/{path.name}"), (folder,), (folder,))

    def _place_folder(self, path: Path, models_path: Path) -> Placed:
        if path.resolve().parent == models_path and not path.name.startswith("."):
            return Placed(self._source(path=path.resolve().name))
        if not (path / INDEX).is_file():
            raise UsageError(
                f"{path} has no {INDEX}: give the folder of a base in diffusers' layout, which has one beside unet/ "
                "and vae/, or a single .safetensors file."
            )
        name = self.model_id or name_folder(path)
        target = models_path / name
        if target.exists():
            raise UsageError(
                f"The models directory has a folder {name} already. Choose another name with --id, or register that "
                f"folder by `models add {name}`."
            )
        files = list(_list_base_files(path, target))
        if not _on_one_disk(path, models_path):
            _refuse_full_disk(models_path, sum(file.stat().st_size for file, _ in files), path.name)
        fill(target, files)
        (target / NOTE).write_text(f"{MADE_HERE}: its files are links to those of {path}, or copies.\n")
        return Placed(self._source(path=name), (target,))


def remove(paths: Sequence[Path]) -> None:
    """Removes links and copies that this command made; the originals stay."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def remove_stale(models_path: Path) -> None:
    """Removes single files that earlier commands placed and could not remove before they died."""
    for folder in models_path.glob(f"{ADDING}*"):
        if time.time() - folder.stat().st_mtime > STALE_SECONDS:
            remove([folder])


def name_folder(path: Path) -> str:
    """An id from the folder's name; from the repository's for a snapshot in the Hub's cache, which is named by a hash.
    Raises UsageError where no id can be made of it."""
    path = path.resolve()
    name = path.parents[1].name.rpartition("--")[2] if path.parent.name == "snapshots" else path.name
    model_id = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:64]
    if not re.match(ID_PATTERN, model_id):
        raise UsageError(f"No id can be made of the name {name!r}: give one with --id.")
    return model_id


def _refuse_other_files(path: Path) -> None:
    if path.suffix.lower() == SINGLE_FILE:
        return
    if path.suffix.lower() in PICKLES:
        raise UsageError(
            f"{path.name} is a pickle, a format that can run code when it is opened, and is not read. Get the model as "
            f"{SINGLE_FILE}, or convert it on a machine that you can afford to lose."
        )
    raise UsageError(f"{path.name} is neither a {SINGLE_FILE} file nor a folder in diffusers' layout.")


def _relative_to(path: Path, models_path: Path) -> str | None:
    """The path that the service gets, with links resolved; None if it is outside the models directory."""
    resolved = path.resolve()
    return str(resolved.relative_to(models_path)) if resolved.is_relative_to(models_path) else None


def _on_one_disk(path: Path, models_path: Path) -> bool:
    """Whether links are enough. A folder of the Hub's cache consists of links to files elsewhere."""
    file = next((path / "unet").glob("*.safetensors"), path) if path.is_dir() else path
    return file.stat().st_dev == models_path.stat().st_dev


def _refuse_full_disk(models_path: Path, num_bytes: int, name: str) -> None:
    free = shutil.disk_usage(models_path).free
    if num_bytes + ROOM_BYTES > free:
        raise UsageError(
            f"{name} needs {num_bytes / 1e9:.1f} GB in {models_path}, where {free / 1e9:.1f} GB are free. Make room, "
            "or have the models directory on a larger disk (ATELIER_MODELS)."
        )


def _list_base_files(path: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Of a repository's folder what makes the base, and where it goes: weights of other formats stay behind where the
    part has .safetensors, as do files that no part is made of."""
    for file in sorted(path.glob("*.json")):
        if file.name != CARD:  # it belongs to another home; the worker writes one for this home
            yield file, target / file.name
    for part in FOLDERS:
        has_safetensors = any((path / part).glob(f"*{SINGLE_FILE}"))
        for file in sorted((path / part).glob("*")):
            is_other_weights = file.suffix.lower() in WEIGHTS - {SINGLE_FILE}
            if file.is_file() and not (has_safetensors and is_other_weights):
                yield file, target / part / file.name


def fill(folder: Path, files: Sequence[tuple[Path, Path]]) -> None:
    """Makes a hard link, which takes no space and survives the deletion of the original; else a copy."""
    try:
        folder.mkdir(parents=True)
        for source, target in files:
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(source.resolve(), target)
    except OSError as error:
        remove([folder])
        raise UsageError(f"{error.filename} cannot be brought into {folder.parent}: {error.strerror}.") from error
    except BaseException:
        remove([folder])
        raise


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another disk, or another user's file
        shutil.copyfile(source, target)
