"""Under which account the embedded servers run, and where their files lie so that it can reach them.

PostgreSQL refuses to run as root, and Valkey should not. Root's servers run as the user `atelier` where
there is one, else as `nobody`; any other user's servers run as that user.

Everybody but root: in the home. Root: in the home as well where the unprivileged account can pass through
to it, else in ``/var/lib/atelier`` (``ATELIER_STATE_DIR`` names another folder). No mode of a folder that
exists is changed on the way: a home below a private folder stays private.
"""

import contextlib
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from cli.errors import StartError
from cli.local.home import Home, change_credentials, load_credentials
from cli.local.supervisor.account import Account

PREFERRED_USERS = ("atelier", "nobody")
STATE_DIR_VARIABLE = "ATELIER_STATE_DIR"
DEFAULT_STATE_DIR = "/var/lib/atelier"
MAX_SOCKET_DIR_LENGTH = 80  # sun_path holds 107 bytes on Linux, 103 on macOS; the socket's own name takes up to 25


@dataclass(frozen=True)
class ServerDirs:
    """``data`` holds one folder per server; ``account`` is None when no change of user is needed."""

    account: Account | None
    data: Path
    home_id: str

    def make_private(self, path: Path) -> Path:
        """A folder that the servers' account alone can use, made or already there."""
        if not path.exists():
            path.mkdir(mode=0o700)
            if self.account:
                self.account.own(path)
        _check_owner(path, self.account.uid if self.account else os.geteuid())
        return path

    def socket_dir(self) -> Path:
        """A short private folder for a socket, the same at every start and emptied of an earlier one's rest."""
        base = Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108 - the folder below is private and its name random
        if len(str(base)) > MAX_SOCKET_DIR_LENGTH - 30 or not str(base).isascii() or not self.can_reach(base):
            base = Path("/tmp")  # noqa: S108
        return self._empty(self.make_private(base / f"atelier-{self.home_id}"))

    def remove_socket_dir(self) -> None:
        """When nobody uses it any more. If it cannot be removed it is only an empty folder."""
        with contextlib.suppress(OSError):
            self.socket_dir().rmdir()

    def _empty(self, folder: Path) -> Path:
        for leftover in folder.iterdir():
            leftover.unlink()
        return folder

    def can_reach(self, *paths: Path) -> bool:
        return self.account is None or self.account.reaches(*paths)


def choose_account() -> Account | None:
    """The account to change to, or None when the servers run as the user who starts them.

    Raises StartError when root finds nobody to run them as.
    """
    if os.geteuid() != 0:
        return None
    for name in PREFERRED_USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise StartError(
        "PostgreSQL does not run as root, and there is no user `atelier` or `nobody` to run it as. "
        "Make one, or set DATABASE_URL and REDIS_URL to servers of your own."
    )


def open_server_dirs(home: Home) -> ServerDirs:
    """Decides at the first start where the data goes, and keeps to it.

    Raises StartError when the data lies where the account no longer reaches it.
    """
    account, credentials = choose_account(), load_credentials(home)
    reachable = account is None or account.reaches(home.path)
    in_home = credentials.in_home
    if in_home is None:
        in_home = reachable
        change_credentials(home, in_home=in_home)
    if in_home and not reachable and account:
        raise StartError(
            f"User {account.name} can no longer reach its data in {home.path}: a folder on the way closed."
        )
    data = home.path if in_home else _system_folder(account, credentials.home_id)
    return ServerDirs(account, data, credentials.home_id)


def state_dir() -> Path:
    """Root's folder for what the unprivileged account must reach: root's own, with no listing for others.

    Raises StartError when others could change what root keeps there.
    """
    path = Path(os.environ.get(STATE_DIR_VARIABLE, DEFAULT_STATE_DIR))
    path.parent.mkdir(parents=True, exist_ok=True)
    _make_passable(path)
    _check_owner(path, 0)
    return path


def _system_folder(account: Account | None, home_id: str) -> Path:
    if account is None:
        raise StartError("The servers' data of this home was made by root: start as root, or choose another --home.")
    folder = state_dir() / "homes" / home_id
    for part in (folder.parent, folder):
        _make_passable(part)
    if not account.reaches(folder):
        raise StartError(f"User {account.name} cannot reach {folder}: set {STATE_DIR_VARIABLE} to a folder it can.")
    return folder


def _make_passable(path: Path) -> None:
    """A new folder that others can pass through without listing it; one that exists keeps its mode."""
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(0o711)


def _check_owner(path: Path, uid: int) -> None:
    """A folder of somebody else's, or one that others may write, could be used to mislead a server."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o022:
        raise StartError(f"{path} must be a folder that user {uid} owns and nobody else can write; it is not.")


def remove_server_dirs(place: ServerDirs) -> None:
    """Deletes the servers' data and socket; for throw-away homes."""
    place.remove_socket_dir()
    shutil.rmtree(place.data)
