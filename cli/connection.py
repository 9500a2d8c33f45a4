"""Finds the service and the key that a client command uses."""

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cli.errors import CommandError
from cli.local.home import DEFAULT_HOME, Home

DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Connection:
    url: str
    api_key: str | None = field(repr=False)


def find_connection(environ: Mapping[str, str]) -> Connection:
    """ATELIER_URL and ATELIER_API_KEY; else what the home on this machine tells.

    The home's key opens everything, so it goes to addresses of this machine only.
    """
    home = find_home(environ)
    url = environ.get("ATELIER_URL") or read_running_url(home) or DEFAULT_URL
    key = environ.get("ATELIER_API_KEY") or (read_admin_key(home) if is_this_machine(url) else None)
    return Connection(url.rstrip("/"), key)


def find_home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("ATELIER_HOME") or DEFAULT_HOME).expanduser()


def read_running_url(home: Path) -> str | None:
    """Where the `atelier up` of this home listens; None when none says so."""
    return _read_address(home).get("url")


def find_moved_url(environ: Mapping[str, str]) -> str | None:
    """Where the home's service listens now, after a restart. None if it does not run, if ATELIER_URL names another
    service, or if the home's key may not go there."""
    url = None if environ.get("ATELIER_URL") else read_running_url(find_home(environ))
    if url is None or not (environ.get("ATELIER_API_KEY") or is_this_machine(url)):
        return None
    return url.rstrip("/")


def find_models_path(environ: Mapping[str, str], url: str) -> Path | None:
    """The models directory of the service at ``url``; None where that is not this home's `atelier up`."""
    home = find_home(environ)
    if read_running_url(home) != url:
        return None
    return Path(_read_address(home).get("models") or home / "models").resolve()


def _read_address(home: Path) -> dict[str, str]:
    """What `atelier up` wrote once it was up; what is not text in it is left out."""
    try:
        address = json.loads(Home(home).address_file.read_text())
    except (OSError, ValueError):
        return {}
    items = address.items() if isinstance(address, dict) else ()
    return {key: value for key, value in items if isinstance(value, str)}


def read_admin_key(home: Path) -> str | None:
    """Raises CommandError when the key is there but another user's."""
    try:
        return (home / "admin.key").read_text().strip() or None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandError(f"{home / 'admin.key'} cannot be read ({error.strerror}): set ATELIER_API_KEY.") from error


def is_this_machine(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
