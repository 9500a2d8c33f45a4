"""Opens a captioner's folder, whatever its kind, and says what it is."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from core.domain.captioner import CaptionerInfo, CaptionerKind, CaptionerOrder
from worker.engine.captioning.protocol import OpenCaptioner
from worker.engine.errors import BadInput

WITHOUT_EFFECT = frozenset({".md", ".bin", ".h5", ".msgpack", ".pt", ".pth", ".ckpt", ".png", ".jpg", ".jpeg", ".gif"})
"""Suffixes of files that no captioner reads here, pickles among them."""
MAX_FILES = 1000
_WANTED = (
    "A captioner is a folder with a transformers model (config.json and .safetensors weights) that turns images into "
    "text, or a tagger (model.onnx and selected_tags.csv)."
)


def recognise(folder: Path) -> CaptionerKind:
    """By its files. Raises BadInput."""
    if not folder.is_dir():
        raise BadInput(f"There is no folder {folder.name}. {_WANTED}")
    if (folder / "model.onnx").is_file():
        if not (folder / "selected_tags.csv").is_file():
            raise BadInput(f"{folder.name} has a model.onnx but no selected_tags.csv, the list of its tags.")
        return "tagger"
    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder.name} has neither a config.json nor a model.onnx. {_WANTED}")
    _check_config(folder)
    if not any(folder.glob("*.safetensors")):
        raise BadInput(
            f"{folder.name} has no .safetensors weights. Other formats can run code when they are opened, and are not "
            "read: save the model again with save_pretrained."
        )
    return "image-to-text"


def _check_config(folder: Path) -> None:
    """Raises BadInput for a configuration that no model for images and text has."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    try:
        config = json.loads((folder / "config.json").read_text())
        kind = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder.name}/config.json does not say which model_type it is for.") from error
    if kind not in KNOWN:
        raise BadInput(
            f"{folder.name} is a {str(kind)[:80]}, which transformers does not know as a model that turns images into "
            f"text. {_WANTED}"
        )


def list_files(folder: Path) -> Sequence[Path]:
    """Those that decide what it writes. Raises BadInput."""
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.suffix.lower() not in WITHOUT_EFFECT
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if len(files) > MAX_FILES:
        raise BadInput(f"{folder.name} has more than {MAX_FILES:,} files. {_WANTED}")
    return files


def hash_files(folder: Path, files: Sequence[Path]) -> str:
    """SHA-256 over the names and contents."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256")
        digest.update(f"{path.relative_to(folder).as_posix()}\n{content.hexdigest()}\n".encode())
    return digest.hexdigest()


def open_captioner(order: CaptionerOrder) -> tuple[OpenCaptioner, CaptionerInfo]:
    """Raises BadInput, also for another captioner than the one that was registered."""
    kind = recognise(order.folder)
    files = list_files(order.folder)
    sha256 = hash_files(order.folder, files)
    if order.sha256 not in (None, sha256):
        raise BadInput(
            f"The files of {order.folder.name} are not those that were registered. Ask the operator to register it "
            "again."
        )
    captioner = _open(kind, order)
    info = CaptionerInfo(
        kind=kind,
        architecture=captioner.architecture,
        takes_prompt=captioner.takes_prompt,
        num_parameters=captioner.num_parameters,
        num_tags=captioner.num_tags,
        size=sum(path.stat().st_size for path in files),
        sha256=sha256,
    )
    return captioner, info


def _open(kind: CaptionerKind, order: CaptionerOrder) -> OpenCaptioner:
    """A new one, without a known hash, is tried out on an image. The libraries are imported here, since neither kind
    needs the other's."""
    trial = Image.linear_gradient("L").resize((96, 64)).convert("RGB") if order.sha256 is None else None
    if kind == "tagger":
        from worker.engine.captioning.tagger import Tagger

        tagger = Tagger(order.folder, device=order.device, cpu_threads=order.cpu_threads, threshold=order.threshold)
        if trial is not None:
            tagger.caption(trial)
        return tagger
    from worker.engine.captioning.image_to_text import ImageToText

    model = ImageToText(order.folder, device=order.device, cpu_threads=order.cpu_threads, prompt=order.prompt)
    if trial is not None:
        model.caption(trial)
        model.try_prompt(trial)
    return model
