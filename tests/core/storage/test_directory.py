"""What is special about a directory: links, permissions, other tools' files, a full disk."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from core.storage import InvalidKey, ObjectNotFound, StorageUnavailable
from core.storage.directory import DirectoryStorage


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def storage(root: Path) -> DirectoryStorage:
    return DirectoryStorage(root)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(b"not yours")
    return folder


def test_a_linked_folder_leads_nowhere(storage: DirectoryStorage, root: Path, outside: Path, tmp_path: Path) -> None:
    (root / "link").symlink_to(outside)

    assert storage.stat("link/secret") is None
    with pytest.raises(ObjectNotFound):
        storage.read("link/secret")
    with pytest.raises(ObjectNotFound):
        storage.fetch("link/secret", tmp_path / "copy")
    with pytest.raises(InvalidKey):
        storage.put("link/secret", b"mine")
    with pytest.raises(InvalidKey):
        storage.put("link/deeper/new", b"mine")
    storage.delete("link/secret")
    assert storage.delete_prefix("link") == 0
    assert list(storage.list("")) == []
    assert [(path.name, path.read_bytes()) for path in outside.iterdir()] == [("secret", b"not yours")]


def test_a_linked_file_is_no_object_and_a_put_replaces_the_link(
    storage: DirectoryStorage, root: Path, outside: Path
) -> None:
    (root / "a").symlink_to(outside / "secret")

    assert storage.stat("a") is None
    assert list(storage.list("")) == []
    with pytest.raises(ObjectNotFound):
        storage.read("a")

    storage.put("a", b"mine")
    assert storage.read("a") == b"mine"
    assert (outside / "secret").read_bytes() == b"not yours"


def test_a_linked_temporary_folder_is_refused(root: Path, outside: Path) -> None:
    storage = DirectoryStorage(root)
    (root / ".tmp").rmdir()
    (root / ".tmp").symlink_to(outside)

    with pytest.raises(ObjectNotFound):
        storage.put("a", b"mine")
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "big-disk").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "big-disk")
    DirectoryStorage(tmp_path / "store").put("a", b"x")
    assert (tmp_path / "big-disk" / "a").read_bytes() == b"x"


def test_an_object_is_no_folder_and_a_folder_no_object(storage: DirectoryStorage) -> None:
    storage.put("a/b", b"x")
    for key in ("a", "a/b/c", "a/b/c/d"):
        with pytest.raises(InvalidKey):
            storage.put(key, b"y")
    assert [stat.key for stat in storage.list("")] == ["a/b"]
    assert storage.read("a/b") == b"x"


def test_others_cannot_read(storage: DirectoryStorage, root: Path) -> None:
    storage.put("a/b", b"x")
    assert [oct(path.stat().st_mode & 0o777) for path in (root, root / "a", root / "a/b")] == [
        "0o700",
        "0o700",
        "0o600",
    ]


def test_files_of_other_tools_are_not_objects(storage: DirectoryStorage, root: Path) -> None:
    storage.put("a/b", b"x")
    (root / ".DS_Store").write_bytes(b"")
    (root / "a" / "a copy.png").write_bytes(b"")
    (root / "lost+found").mkdir()
    assert [stat.key for stat in storage.list("")] == ["a/b"]


def test_emptied_folders_go(storage: DirectoryStorage, root: Path) -> None:
    storage.put("jobs/1/a1/adapter", b"x")
    storage.put("jobs/2/a1/adapter", b"x")
    storage.delete("jobs/1/a1/adapter")
    assert sorted(path.name for path in (root / "jobs").iterdir()) == ["2"]
    storage.delete_prefix("jobs/2")
    assert sorted(path.name for path in root.iterdir()) == [".tmp"]


def test_a_put_survives_the_removal_of_its_folder(storage: DirectoryStorage) -> None:
    """One thread empties a folder, and so removes it, again and again while another puts into it."""
    done = threading.Event()

    def churn() -> None:
        while not done.is_set():
            storage.put("a/b/c/passing", b"")
            storage.delete("a/b/c/passing")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for number in range(150):
            storage.put("a/b/c/staying", number.to_bytes(2, "big"))
            assert storage.read("a/b/c/staying") == number.to_bytes(2, "big")
            storage.delete("a/b/c/staying")
    finally:
        done.set()
        thread.join()


def test_a_store_that_is_gone_fails_its_check(storage: DirectoryStorage, root: Path) -> None:
    storage.check()
    shutil.rmtree(root)
    with pytest.raises(StorageUnavailable):
        storage.check()


# In a mount namespace of its own, with a disk of 2 MiB; prints what a put of 4 MiB raises and what it leaves.
FILL_THE_DISK = """
import subprocess, sys
from pathlib import Path
from core.storage import StorageError, open_storage

subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tiny-disk", sys.argv[1]], check=True)
storage = open_storage(sys.argv[1])
storage.put("older", bytes(1000))
try:
    storage.put("a", bytes(4 << 20))
except StorageError as error:
    print(type(error).__name__)
print([stat.key for stat in storage.list("")], list(Path(sys.argv[1], ".tmp").iterdir()))
storage.put("later", bytes(1 << 20))
print("room again")
"""


def test_a_full_disk_says_so_and_is_left_as_it_was(tmp_path: Path) -> None:
    own_mounts = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*own_mounts, "mount", "-t", "tmpfs", "probe", str(tmp_path)], capture_output=True).returncode:
        pytest.skip("this system does not let us mount a small disk")
    run = subprocess.run(
        [*own_mounts, sys.executable, "-c", FILL_THE_DISK, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert run.stdout.splitlines() == ["StorageFull", "['older'] []", "room again"], run.stderr
