"""``python -m worker.datasets.decoder``: opens users' files, in a process that may crash and has few rights.

Reads one request a line from standard input and answers each with one line: JSON both ways, files by path.
Its arguments are its limits and its parent's pid. It has no secrets in its environment, and dies with its parent.
"""

import errno
import json
import lzma
import resource
import struct
import sys
import tarfile
import traceback
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.domain.errors import ArchiveRejected
from worker.answers import take_stdout
from worker.datasets.archives import ExpandLimits, expand_archive
from worker.datasets.images import Unusable, convert_image, crop_image
from worker.parent import die_with_parent

MAX_OPEN_FILES = 64
_OUR_FAULT = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.ESTALE}
# The standard library's exceptions for broken archives. Anything else deserves a traceback.
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
)
_DAMAGED = "It is damaged, cut short, or not what its name claims. Create it again and upload it."


@dataclass(frozen=True)
class DecoderLimits:
    """Limits on all mapped memory, and on processor time for one archive and for one image."""

    memory_bytes: int
    max_total_bytes: int
    max_file_bytes: int
    max_pixels: int
    archive_cpu_seconds: int
    image_cpu_seconds: int


def main(limits_json: str, parent_pid: str) -> None:
    limits = DecoderLimits(**json.loads(limits_json))
    die_with_parent(int(parent_pid))
    confine(limits)
    with take_stdout() as answers:
        for line in sys.stdin.buffer:
            answers.write(json.dumps(answer(json.loads(line), limits)).encode() + b"\n")
            answers.flush()


def confine(limits: DecoderLimits) -> None:
    max_written_bytes = max(limits.max_total_bytes, 5 * limits.max_pixels)
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_written_bytes, max_written_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_FILES, MAX_OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def allow_cpu(seconds: int) -> None:
    """Starting now. At its end the kernel sends SIGXCPU, which ends the process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(usage.ru_utime + usage.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def answer(request: dict[str, Any], limits: DecoderLimits) -> dict[str, Any]:
    """``refused`` is for the user to fix, ``failed`` for the operator."""
    work: Callable[[dict[str, Any], DecoderLimits], dict[str, Any]] = _WORK[request["do"]]
    try:
        return work(request, limits)
    except (ArchiveRejected, Unusable) as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"refused": "Opening it takes too much memory. Make it smaller."}
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _OUR_FAULT:
            return {"failed": f"the scratch folder: {error.strerror}"}
        if not isinstance(error, _DAMAGE):
            traceback.print_exc()
        return {"refused": _DAMAGED}


def _expand(request: dict[str, Any], limits: DecoderLimits) -> dict[str, Any]:
    allow_cpu(limits.archive_cpu_seconds)
    expand_limits = ExpandLimits(limits.max_total_bytes, limits.max_file_bytes)
    return asdict(expand_archive(Path(request["archive"]), request["filename"], Path(request["folder"]), expand_limits))


def _convert(request: dict[str, Any], limits: DecoderLimits) -> dict[str, Any]:
    allow_cpu(limits.image_cpu_seconds)
    mask = Path(request["mask"]) if "mask" in request else None
    source, target = Path(request["source"]), Path(request["target"])
    image = convert_image(source, target, mask=mask, thumbnail=_thumbnail_of(request), max_pixels=limits.max_pixels)
    return {"image": asdict(image)}


def _crop(request: dict[str, Any], limits: DecoderLimits) -> dict[str, Any]:
    allow_cpu(limits.image_cpu_seconds)
    left, top, width, height = request["box"]
    source, target = Path(request["source"]), Path(request["target"])
    box, thumbnail = (left, top, width, height), _thumbnail_of(request)
    return {"image": asdict(crop_image(source, target, box, thumbnail=thumbnail, max_pixels=limits.max_pixels))}


def _thumbnail_of(request: dict[str, Any]) -> Path | None:
    return Path(request["thumbnail"]) if "thumbnail" in request else None


_WORK = {"expand": _expand, "convert": _convert, "crop": _crop}

if __name__ == "__main__":
    main(*sys.argv[1:])
