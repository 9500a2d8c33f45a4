"""The processes of `atelier up`, in the stages in which they start."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from cli.local import programs
from cli.local.devices import share_cores
from cli.local.embedded.postgres import open_postgres
from cli.local.embedded.server_dirs import open_server_dirs
from cli.local.embedded.valkey import open_valkey
from cli.local.home import Home
from cli.local.supervisor.service import Service
from cli.local.supervisor.warden import warden_service

MIGRATION_TIMEOUT_SECONDS = 600.0
# Long enough to write a checkpoint and put it into storage.
DRAIN_TIMEOUT_SECONDS = 60.0

# Secrets that open everything. Children that do not need them do not get them.
_SECRETS = ("DATABASE_OWNER_URL", "DATABASE_API_URL", "ATELIER_API_KEY")


@dataclass(frozen=True)
class TreePlan:
    """``devices`` has one entry per train worker; ``url`` is where this machine reaches the API."""

    host: str
    port: int
    url: str
    devices: tuple[str, ...]
    api_key: str


def build_tree(home: Home, plan: TreePlan, environ: Mapping[str, str]) -> list[list[Service]]:
    """Servers are embedded only where DATABASE_URL or REDIS_URL does not name one.

    Raises StartError when a server is to be embedded and there is none to run.
    """
    base = {key: value for key, value in environ.items() if key not in _SECRETS}
    servers = _embed_servers(home, environ)
    env = {
        **programs.service_environment(base, home.path),
        "ATELIER_URL": environ.get("ATELIER_URL") or plan.url,
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "PYTHONUNBUFFERED": "1",
    }
    migration = _migration({**env, "DATABASE_OWNER_URL": servers.owner_url, "DATABASE_API_URL": servers.api_url})
    embedded = [[service] for service in servers.services]
    return [
        [warden_service(home, programs.ROOT, base)],
        *embedded,
        [migration],
        _application(plan, env, servers.api_url),
    ]


@dataclass(frozen=True)
class _Servers:
    services: tuple[Service, ...]
    database_url: str
    owner_url: str
    api_url: str
    redis_url: str


def _embed_servers(home: Home, environ: Mapping[str, str]) -> _Servers:
    services: list[Service] = []
    database_url, redis_url = environ.get("DATABASE_URL"), environ.get("REDIS_URL")
    owner_url = environ.get("DATABASE_OWNER_URL") or database_url
    api_url = environ.get("DATABASE_API_URL") or database_url
    if not database_url or not owner_url or not api_url:
        postgres = open_postgres(home, open_server_dirs(home))
        database_url, owner_url, api_url = postgres.app_url, postgres.owner_url, postgres.api_url
        services.append(postgres.service())
    if not redis_url:
        valkey = open_valkey(home, open_server_dirs(home))
        redis_url = valkey.url
        services.append(valkey.service())
    return _Servers(tuple(services), database_url, owner_url, api_url, redis_url)


def _migration(env: Mapping[str, str]) -> Service:
    return Service(
        name="migrate",
        command=programs.migrate_command(),
        env=env,
        cwd=programs.ROOT,
        once=True,
        start_timeout_seconds=MIGRATION_TIMEOUT_SECONDS,
    )


def _application(plan: TreePlan, env: Mapping[str, str], api_url: str) -> list[Service]:
    return [
        Service(
            name="api",
            command=programs.api_command(plan.host, plan.port),
            env={**env, "DATABASE_URL": api_url, "ATELIER_API_KEY": plan.api_key},
            cwd=programs.ROOT,
            ready=lambda: is_ready(plan.url),
        ),
        Service(name="cpu", command=programs.cpu_worker_command(), env=env, cwd=programs.ROOT),
        *(
            _train_worker(slot, device, {**share_cores(plan.devices), **env})
            for slot, device in enumerate(plan.devices)
        ),
        Service(name="steward", command=programs.steward_command(), env=env, cwd=programs.ROOT),
    ]


def _train_worker(slot: int, device: str, env: Mapping[str, str]) -> Service:
    return Service(
        name=f"train-{slot}",
        command=programs.train_worker_command(slot),
        env={**env, "ATELIER_DEVICE": device, "ATELIER_SLOT": str(slot)},
        cwd=programs.ROOT,
        stop_timeout_seconds=DRAIN_TIMEOUT_SECONDS,
    )


def is_ready(url: str) -> bool:
    """Whether the API says that it, its database, its broker and its storage answer."""
    try:
        return open_local_client().get(f"{url}/readyz", timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


@functools.cache
def open_local_client() -> httpx.Client:
    """Without the environment's proxies: this is the machine itself. One for all calls, for each reads a bundle of
    certificates. A connection is for one call: the server may not be the same at the next."""
    return httpx.Client(trust_env=False, headers={"Connection": "close"})
