"""Token buckets in the broker's store, so that all API processes share them.

A bucket gains a fixed number of tokens per second, up to its burst. If the store does not respond, requests pass: a
broker outage must not close the API.
"""

import asyncio
import logging
import math
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

PREFIX = "atelier:rate:"
TIMEOUT_SECONDS = 0.5
PAUSE_SECONDS = 5.0
"""After a failure the store is not asked for this long: else each request would wait for the timeout."""

# KEYS: the bucket. ARGV: tokens per second, burst, how many to take, 1 to take them even if they are missing.
# The debt from forced takes is at most ten bursts: else a client that goes on all day would lock out its whole
# address for days. The server's clock is used, since those of the API's machines may differ. A full bucket equals
# a missing one, so it expires.
TAKE = """
local rate, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local known = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(known[1]) or burst, tonumber(known[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local taken = (tokens >= cost or ARGV[4] == '1') and 1 or 0
if taken == 1 then tokens = math.max(tokens - cost, math.min(tokens, -10 * burst)) end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - tokens) / rate * 1000) + 1000)
return {taken, string.format('%.6f', tokens)}
"""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Policy:
    """``burst`` requests at once, and ``per_minute`` in the long run. ``name`` is its name in response headers."""

    name: str
    per_minute: int
    burst: int

    @property
    def per_second(self) -> float:
        return self.per_minute / 60

    @property
    def window_seconds(self) -> int:
        """The time in which an empty bucket fills."""
        return math.ceil(self.burst / self.per_second)


@dataclass(frozen=True)
class BucketState:
    """The state of a bucket after a request. ``tokens`` may be below 0."""

    policy: Policy
    taken: bool
    tokens: float

    @property
    def remaining(self) -> int:
        return max(0, math.floor(self.tokens))

    @property
    def seconds_until_full(self) -> int:
        return max(0, math.ceil((self.policy.burst - self.tokens) / self.policy.per_second))

    @property
    def seconds_until_next(self) -> int:
        """Until there is a whole token; at least 1."""
        return max(1, math.ceil((1 - self.tokens) / self.policy.per_second))


class Buckets:
    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(
            redis_url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._script = self._redis.register_script(TAKE)
        self._asks_again_at = 0.0
        self._is_away = False

    async def take(self, policy: Policy, name: str, *, cost: int = 1, force: bool = False) -> BucketState | None:
        """None if the store does not respond. ``force``: takes the tokens even if they are missing."""
        now = asyncio.get_running_loop().time()
        if now < self._asks_again_at:
            return None
        try:
            taken, tokens = await self._script(
                keys=[f"{PREFIX}{policy.name}:{name}"], args=[policy.per_second, policy.burst, cost, int(force)]
            )
        except (RedisError, OSError) as error:
            self._note_failure(now, error)
            return None
        self._note_answer()
        return BucketState(policy, bool(taken), float(tokens))

    async def peek(self, policy: Policy, name: str) -> BucketState | None:
        return await self.take(policy, name, cost=0, force=True)

    async def close(self) -> None:
        await self._redis.aclose()

    def _note_failure(self, now: float, error: Exception) -> None:
        self._asks_again_at = now + PAUSE_SECONDS
        if not self._is_away:
            logger.warning("rates are not limited until the broker is back: %s", error)
        self._is_away = True

    def _note_answer(self) -> None:
        if self._is_away:
            logger.info("rates are limited again")
        self._is_away = False
