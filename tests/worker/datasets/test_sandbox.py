"""The decoder's process: its limits hold, and its death is one file's affair."""

import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.fixtures.pictures import png
from tests.worker.datasets.conftest import LIMITS
from tests.worker.datasets.hostile import tar_of
from worker.datasets.decoder import DecoderLimits
from worker.datasets.images import Unusable
from worker.datasets.sandbox import DecoderDied, Sandbox, SandboxLimits, ScratchFailed

ROOT = Path(__file__).parents[3]


@contextmanager
def started(limits: DecoderLimits = LIMITS, **options: float) -> Iterator[Sandbox]:
    with Sandbox(SandboxLimits(limits, **options), pulse=lambda: None) as sandbox:
        yield sandbox


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture"
    path.write_bytes(png(1))
    return path


def large_png(width: int, height: int) -> bytes:
    """Black, and small as a file."""
    rows = zlib.compressobj(1)
    pixels = b"".join(rows.compress(bytes(1 + 3 * width)) for _ in range(height)) + rows.flush()
    header = struct.pack(">2L5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    )


def test_a_picture_over_the_memory_limit_is_left_out_and_the_next_is_not(tmp_path: Path, picture: Path) -> None:
    limits = replace(LIMITS, memory_bytes=256 << 20, max_pixels=1 << 30)
    (tmp_path / "large").write_bytes(large_png(9000, 9000))
    with started(limits) as sandbox:
        with pytest.raises(Unusable, match="too much memory"):
            sandbox.convert(tmp_path / "large", tmp_path / "out")
        assert sandbox.convert(picture, tmp_path / "out").width == 48


def test_a_picture_over_the_processor_limit_kills_the_decoder_and_the_next_is_converted(
    tmp_path: Path, picture: Path
) -> None:
    """The limit counts from each request: it is no matter how much was spent before."""
    limits = replace(LIMITS, max_pixels=1 << 30, memory_bytes=8 << 30, image_cpu_seconds=0)
    (tmp_path / "slow").write_bytes(large_png(12000, 12000))
    with started(limits) as sandbox:
        with pytest.raises(DecoderDied, match=str(-signal.SIGXCPU)):
            sandbox.convert(tmp_path / "slow", tmp_path / "out")
        assert sandbox.convert(picture, tmp_path / "out").width == 48


def test_a_decoder_that_hangs_is_killed_and_another_started(tmp_path: Path, picture: Path) -> None:
    with started(image_seconds=0.2) as sandbox:
        sandbox._dialogue = sandbox._start()
        hung = psutil.Process(sandbox.pid)
        hung.suspend()
        with pytest.raises(DecoderDied, match="too long"):
            sandbox.convert(picture, tmp_path / "out")
        assert not hung.is_running()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_crash_is_reported_and_another_decoder_started(number: signal.Signals, tmp_path: Path, picture: Path) -> None:
    with started() as sandbox:
        sandbox.convert(picture, tmp_path / "out")
        first = sandbox.pid
        assert first is not None
        os.kill(first, number)
        with pytest.raises(DecoderDied):
            sandbox.convert(picture, tmp_path / "out")
        assert sandbox.convert(picture, tmp_path / "out").width == 48
        assert sandbox.pid != first


def test_the_pulse_may_end_it_in_the_middle(tmp_path: Path, picture: Path) -> None:
    class Enough(Exception): ...

    def stop() -> None:
        raise Enough

    with Sandbox(SandboxLimits(LIMITS), pulse=stop) as sandbox:
        with pytest.raises(Enough):
            sandbox.convert(picture, tmp_path / "out")
        process = psutil.Process(sandbox.pid)
    assert not process.is_running()


def test_a_full_disk_is_not_the_pictures_fault(picture: Path) -> None:
    with started() as sandbox, pytest.raises(ScratchFailed, match="No space left"):
        sandbox.convert(picture, Path("/dev/full"))


def test_what_is_written_is_limited(tmp_path: Path) -> None:
    """Beneath the counting of bytes: should it ever miscount, the kernel does not."""
    limits = replace(LIMITS, max_total_bytes=4096, max_pixels=1)
    with started(limits) as sandbox:
        sandbox._dialogue = sandbox._start()
        soft = psutil.Process(sandbox.pid).rlimit(psutil.RLIMIT_FSIZE)
        deadline = time.monotonic() + 20
        while soft != (4096, 4096) and time.monotonic() < deadline:
            time.sleep(0.02)
            soft = psutil.Process(sandbox.pid).rlimit(psutil.RLIMIT_FSIZE)
    assert soft == (4096, 4096)


def test_the_decoder_gets_no_secrets(tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "AWS_SECRET_ACCESS_KEY", "ATELIER_API_KEY"):
        monkeypatch.setenv(name, "canary-91b7")
    with started() as sandbox:
        sandbox.convert(picture, tmp_path / "out")
        environment = Path(f"/proc/{sandbox.pid}/environ").read_text()
    assert "canary-91b7" not in environment


def test_the_decoder_knows_no_torch_and_nothing_of_the_service(tmp_path: Path) -> None:
    script = """
import sys, worker.datasets.decoder
names = {name.partition(".")[0] for name in sys.modules}
assert not names & {"torch", "sqlalchemy", "celery", "redis", "boto3", "diffusers"}, names
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


PARENT = """
import sys, time
from pathlib import Path
from tests.worker.datasets.conftest import LIMITS
from worker.datasets.sandbox import Sandbox, SandboxLimits
sandbox = Sandbox(SandboxLimits(LIMITS), pulse=lambda: None)
sandbox.convert(Path(sys.argv[1]), Path(sys.argv[2]))
print(sandbox.pid, flush=True)
time.sleep(600)
"""


def test_the_decoder_dies_with_the_worker(tmp_path: Path, picture: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(picture), str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        decoder = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    wait_until(lambda: not decoder.is_running() or decoder.status() == psutil.STATUS_ZOMBIE)


def wait_until(condition: Callable[[], bool], timeout_seconds: float = 30) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def test_a_long_answer_fits_through_the_pipe(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "archive").write_bytes(tar_of(*((f"{'n' * 400}{i}.txt", b"") for i in range(1_000))))
    with started() as sandbox:
        assert len(sandbox.expand(tmp_path / "archive", "set.tar", folder).entries) == 1_000
