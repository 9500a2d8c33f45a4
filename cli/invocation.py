"""The command as the caller has to type it, for hints that can be copied."""

import shlex
import shutil
import sys
from pathlib import Path

COMMAND = "atelier"


def command_name() -> str:
    """``atelier``, or the path by which it was started where the shell would not find it by its name alone."""
    started = Path(sys.argv[0])
    if started.name != COMMAND or _is_found_by_name(started):
        return COMMAND
    return shlex.quote(str(_shorten(started)))


def _is_found_by_name(started: Path) -> bool:
    found = shutil.which(COMMAND)
    return found is not None and Path(found).resolve() == started.resolve()


def _shorten(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def hint(*arguments: str) -> str:
    """One command line, such as ``atelier watch job_01j9z3h2``."""
    return shlex.join([*shlex.split(command_name()), *arguments])
