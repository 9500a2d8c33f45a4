"""Processes that are killed while they write, and processes that write more than they may remember."""

import io
import os
import time
from pathlib import Path

import pytest

from core.storage import Storage, open_storage
from core.storage.directory import DirectoryStorage

# Puts an object, and hangs for ever once 20 MiB have gone through.
PUT_AND_HANG = """
import io, sys, time
from core.storage import open_storage

class Hanging(io.RawIOBase):
    left = 20 << 20
    def readable(self): return True
    def read(self, size=-1):
        if not self.left:
            print("hanging", flush=True)
            time.sleep(600)
        given = min(size, self.left)
        self.left -= given
        return bytes(given)

open_storage(sys.argv[1], s3_endpoint_url=sys.argv[2] or None).put("a/b", Hanging())
"""


@pytest.fixture
def killed_put(storage: Storage, location: tuple[str, str | None], start_python) -> Storage:
    """A store over which a process has just died with 20 MiB of ``a/b`` written."""
    process = start_python(PUT_AND_HANG, location[0], location[1] or "")
    assert process.stdout.readline() == "hanging\n"
    process.kill()
    process.wait()
    return storage


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_a_killed_put_is_never_seen(killed_put: Storage) -> None:
    assert killed_put.stat("a/b") is None
    assert list(killed_put.list("")) == []
    killed_put.put("a/b", b"the next attempt")
    assert killed_put.read("a/b") == b"the next attempt"


@pytest.mark.parametrize("kind", ["directory"])
def test_what_a_killed_put_left_goes_a_day_later(killed_put: Storage, location: tuple[str, str | None]) -> None:
    root = Path(location[0])
    (left,) = (root / ".tmp").iterdir()
    assert left.stat().st_size == 20 << 20

    DirectoryStorage(root)
    assert left.exists()

    yesterday = time.time() - 25 * 3600
    os.utime(left, (yesterday, yesterday))
    DirectoryStorage(root)
    assert not left.exists()


# Prints how much memory Python took at most while 64 MiB went in and out.
ROUND_TRIP = """
import io, sys, tracemalloc
from pathlib import Path
from core.storage import open_storage

class Zeros(io.RawIOBase):
    left = 64 << 20
    def readable(self): return True
    def read(self, size=-1):
        given = min(size, self.left)
        self.left -= given
        return bytes(given)

storage = open_storage(sys.argv[1], s3_endpoint_url=sys.argv[2] or None)
storage.put("warm-up", b"imports and connections")
tracemalloc.start()
storage.put("a", Zeros())
storage.fetch("a", Path(sys.argv[3]))
storage.put_file("b", Path(sys.argv[3]))
print(storage.stat("b").size, tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_memory_does_not_grow_with_the_object(location: tuple[str, str | None], tmp_path: Path, start_python) -> None:
    process = start_python(ROUND_TRIP, location[0], location[1] or "", str(tmp_path / "copy"))
    output, _ = process.communicate(timeout=300)
    size, peak_bytes = map(int, output.split())

    assert size == 64 << 20
    assert peak_bytes < 32 << 20  # four parts of S3's 8 MiB
    assert (tmp_path / "copy").stat().st_size == 64 << 20


@pytest.mark.parametrize("kind", ["s3"])
def test_a_failed_put_leaves_no_parts_to_pay_for(storage: Storage, breaking_source, bucket: str, s3_client) -> None:
    with pytest.raises(ZeroDivisionError):
        storage.put("a", breaking_source(20 << 20, ZeroDivisionError()))
    assert "Uploads" not in s3_client.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("kind", ["s3"])
def test_a_file_that_changes_under_way_is_not_stored(storage: Storage, bucket: str, s3_client) -> None:
    class Changing(io.BytesIO):
        """Another writer appends once we have read to the end for the first time."""

        def seek(self, offset: int, whence: int = 0) -> int:
            self.getbuffer()[-1] = 1
            return super().seek(offset, whence)

    with pytest.raises(Exception, match="changed while it was read"):
        storage.put("a", Changing(bytes(20 << 20)))
    assert storage.stat("a") is None
    assert "Uploads" not in s3_client.list_multipart_uploads(Bucket=bucket)


def test_a_location_survives_its_process(tmp_path: Path) -> None:
    open_storage(str(tmp_path)).put("a/b", b"x")
    assert open_storage(str(tmp_path)).read("a/b") == b"x"
