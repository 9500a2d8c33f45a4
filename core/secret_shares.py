"""Keeps one share of a secret in the broker's store, for a limited time; the other is in the database.

See core/domain/secret_shares.py.
"""

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

KEPT_SECONDS = 3600
TIMEOUT_SECONDS = 5.0
_PREFIX = "atelier:share:"


async def put_share(redis_url: str, name: str, share: bytes) -> None:
    """Raises RedisError."""
    async with AsyncRedis.from_url(
        redis_url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
    ) as redis:
        await redis.set(_PREFIX + name, share, ex=KEPT_SECONDS)


def get_share(redis_url: str, name: str) -> bytes | None:
    """None once it has expired or was removed. Raises RedisError."""
    with _open(redis_url) as redis:
        found: bytes | None = redis.get(_PREFIX + name)
        return found


def remove_share(redis_url: str, name: str) -> None:
    """Raises RedisError."""
    with _open(redis_url) as redis:
        redis.delete(_PREFIX + name)


def _open(redis_url: str) -> Redis:
    return Redis.from_url(redis_url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS)
