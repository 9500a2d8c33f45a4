"""How a base reaches the models directory: linked where that can be, copied where not, and taken away again."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from cli import bases
from cli.bases import Placed, Placement, name_folder, remove, remove_stale
from cli.errors import UsageError
from core.model_folders import CARD, is_made_here

URL = "http://127.0.0.1:8000"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "models"
    folder.mkdir(parents=True)
    return folder


def place(typed: object, models: Path | None, model_id: str | None = None, **extra: object) -> Placed:
    return Placement(str(typed), models, URL, model_id, dict(extra)).place()


def write_base(folder: Path) -> Path:
    """As a repository of the Hub has it, with weights in every format, and things that do not belong to the base."""
    names = [
        "model_index.json", "README.md", "v1-5-pruned.ckpt", "unet/config.json", "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.safetensors", "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors", "tokenizer/vocab.json", "tokenizer/merges.txt", "scheduler/scheduler.json",
        "safety_checker/model.safetensors",
    ]  # fmt: skip
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def list_files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


TAKEN = {
    "model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "tokenizer/vocab.json",
    "tokenizer/merges.txt", "scheduler/scheduler.json",
}  # fmt: skip


def test_a_folder_elsewhere_is_linked_part_by_part(models: Path, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "Some Base (v2)")
    placed = place(folder, models, description="mine")
    assert placed.source == {"path": "some-base-v2", "description": "mine"}
    made = models / "some-base-v2"
    assert list_files(made) == TAKEN | {"README.md"}
    assert is_made_here(made), "the service removes it with the base"
    assert (made / "unet/config.json").samefile(folder / "unet/config.json"), "it takes no room"
    remove(placed.made)
    assert list(models.iterdir()) == []
    assert (folder / "unet/config.json").read_text() == "unet/config.json", "the original stays"


def test_another_homes_card_is_not_linked(models: Path, tmp_path: Path) -> None:
    """The worker will write a card for this home: through a link it would change the other's."""
    source = write_base(tmp_path / "other" / "sd15")
    (source / CARD).write_text("its own")
    place(source, models, "base2")
    assert (models / "base2" / "model_index.json").exists() and not (models / "base2" / CARD).exists()


def test_on_another_disk_it_is_copied(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    folder = write_base(tmp_path / "base")
    place(folder, models)
    copied = models / "base" / "vae/config.json"
    assert copied.read_text() == "vae/config.json"
    assert not copied.samefile(folder / "vae/config.json")


def test_the_hubs_cache_gives_its_files_and_the_repositorys_name(models: Path, tmp_path: Path) -> None:
    """Its snapshots are folders named by a hash, of links to blobs."""
    blobs = write_base(tmp_path / "models--stabilityai--sdxl-base" / "blobs")
    snapshot = blobs.parent / "snapshots" / "462165984030d82259a11f4367a4eed129e94a7b"
    for name in list_files(blobs):
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blobs / name)
    assert place(snapshot, models).source == {"path": "sdxl-base"}
    made = models / "sdxl-base" / "unet/config.json"
    assert made.is_file() and not made.is_symlink()


def test_a_part_that_is_there_only_as_a_pickle_is_left_to_the_worker_to_refuse(models: Path, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    (folder / "unet/diffusion_pytorch_model.safetensors").unlink()
    place(folder, models)
    assert (models / "base/unet/diffusion_pytorch_model.bin").is_file()


def test_a_single_file_elsewhere_is_taken_away_once_it_was_converted(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "v1-5.safetensors"
    file.write_text("weights")
    placed = place(file, models, "sd15", resolution=512)
    (folder,) = models.iterdir()
    assert placed.source == {"path": f"{folder.name}/v1-5.safetensors", "id": "sd15", "resolution": 512}
    assert (folder / "v1-5.safetensors").samefile(file)
    assert placed.on_success == placed.made == (folder,)
    remove(placed.on_success)
    assert file.exists() and list(models.iterdir()) == []


def test_what_lies_in_the_models_directory_stays_where_it_is(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_base(models / "base")
    (models / "downloads").mkdir()
    (models / "downloads" / "x.safetensors").write_text("weights")
    (tmp_path / "link.safetensors").symlink_to(models / "downloads" / "x.safetensors")
    monkeypatch.chdir(tmp_path)
    for typed in ("base", models / "base"):
        assert place(typed, models) == Placed({"path": "base"})
    for typed in ("downloads/x.safetensors", models / "downloads/x.safetensors", tmp_path / "link.safetensors"):
        assert place(typed, models) == Placed({"path": "downloads/x.safetensors"})
    write_base(models / "downloads" / "deep")
    assert place(models / "downloads/deep", models).source == {"path": "deep"}, "workers look directly in it"


def test_what_is_not_here_is_a_repository_or_is_said(models: Path) -> None:
    assert place("stabilityai/sdxl-turbo", models, "turbo") == Placed(
        {"hub_id": "stabilityai/sdxl-turbo", "id": "turbo"}
    )
    for typed in ("nowhere", "a/b/c", "downloads/none.safetensors", "/none/at/all"):
        with pytest.raises(UsageError, match="There is no file or folder") as caught:
            place(typed, models)
        assert str(models) in caught.value.message, "where it was looked for"


def test_a_service_elsewhere_takes_its_own_files_and_repositories_alone(tmp_path: Path) -> None:
    assert place("some/base", None).source == {"hub_id": "some/base"}
    assert place("downloads/x.safetensors", None).source == {"path": "downloads/x.safetensors"}
    with pytest.raises(UsageError, match="models directory is not known here") as caught:
        place(write_base(tmp_path / "base"), None)
    assert URL in caught.value.message and "ATELIER_HOME" in caught.value.message


@pytest.mark.parametrize(
    ("name", "why"),
    [("x.ckpt", "can run code"), ("x.bin", "can run code"), ("x.gguf", "neither"), ("x", "neither")],
)
def test_other_files_are_refused_before_anything_is_copied(models: Path, tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / name).write_text("weights")
    with pytest.raises(UsageError, match=why):
        place(tmp_path / name, models)
    assert list(models.iterdir()) == []


def test_a_folder_of_something_else_is_refused(models: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(UsageError, match=r"has no model_index\.json"):
        place(tmp_path / "photos", models)


def test_a_name_that_is_taken_is_not_overwritten(models: Path, tmp_path: Path) -> None:
    (models / "base").mkdir()
    with pytest.raises(UsageError, match="--id"):
        place(write_base(tmp_path / "base"), models)
    assert place(tmp_path / "base", models, "other").source == {"path": "other", "id": "other"}


def test_a_full_disk_is_said_with_how_much_is_missing(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"x" * 1000)
    usage = shutil.disk_usage(models)
    monkeypatch.setattr(bases.shutil, "disk_usage", lambda _: usage._replace(free=bases.ROOM_BYTES + 999))
    with pytest.raises(UsageError, match="Make room"):
        place(file, models)
    monkeypatch.setattr(bases.shutil, "disk_usage", lambda _: usage._replace(free=bases.ROOM_BYTES + 1000))
    assert place(file, models).made


def test_what_was_begun_is_gone_if_it_fails(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_base(tmp_path / "base")

    def fail(source: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(source))

    monkeypatch.setattr(bases, "_link_or_copy", fail)
    with pytest.raises(UsageError, match="Permission denied"):
        place(folder, models)
    assert list(models.iterdir()) == []


def test_a_name_without_a_letter_needs_an_id(tmp_path: Path) -> None:
    (tmp_path / "___").mkdir()
    with pytest.raises(UsageError, match="--id"):
        name_folder(tmp_path / "___")


def test_what_an_interrupted_command_left_is_removed_after_a_day(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_text("weights")
    old, new = (place(file, models).made[0] for _ in range(2))
    (models / "base").mkdir()
    for folder in (old, models / "base"):
        os.utime(folder, (0, 0))
    remove_stale(models)
    assert set(models.iterdir()) == {new, models / "base"}
    assert file.exists()
