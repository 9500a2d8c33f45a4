"""Rate limits for keys, and for failed keys by address, before anything else of a request is read.

A key's bucket is found by the key's hash, so that a flood costs no query. Response fields:
draft-ietf-httpapi-ratelimit-headers, with ``q`` the burst and ``w`` the seconds in which an empty bucket fills.
"""

import ipaddress
from collections import OrderedDict
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.limits.buckets import BucketState, Policy
from app.middleware.gate import address_of, is_open, read_key
from app.problems import render
from app.services import Services
from core.domain.errors import QuotaExceeded, Unauthenticated
from core.domain.keys import check_api_key_format, hash_api_key

LOGIN_PATH = "/ui/login"
KNOWN_KEYS = 4096
NETWORK_BITS = 64
"""The prefix of an IPv6 address that counts: its owner has the rest of the network too."""


class KnownKeys:
    """Hashes of keys that were valid lately. Failures of others from the same address do not lock their owners out."""

    def __init__(self) -> None:
        self._hashes: OrderedDict[str, None] = OrderedDict()

    def add(self, key_hash: str) -> None:
        self._hashes[key_hash] = None
        self._hashes.move_to_end(key_hash)
        if len(self._hashes) > KNOWN_KEYS:
            self._hashes.popitem(last=False)

    def discard(self, key_hash: str) -> None:
        self._hashes.pop(key_hash, None)

    def __contains__(self, key_hash: object) -> bool:
        return key_hash in self._hashes


class RateLimits:
    """Answers 429 itself; outside of the error handling, so that it sees every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._known = KnownKeys()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_attempt(scope):
            await self.app(scope, receive, send)
            return
        attempt = LimitedRequest(scope, self._known)
        try:
            level = await attempt.begin()
        except QuotaExceeded as error:
            headers = ratelimit_headers(attempt.level) if attempt.level else {}
            await render(error, scope["path"], headers)(scope, receive, send)
            return

        async def send_noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                await attempt.note(message["status"])
                if level is not None and message["status"] != 401:
                    MutableHeaders(scope=message).update(ratelimit_headers(level))
            await send(message)

        await self.app(scope, receive, send_noting)


def is_attempt(scope: Scope) -> bool:
    """Whether a key is presented. Routes that need none are not counted."""
    if scope["path"] == LOGIN_PATH:
        return bool(scope["method"] == "POST")
    return (not is_open(scope["path"]) or scope["path"].startswith("/ui/")) and "authorization" in Headers(scope=scope)


class LimitedRequest:
    """One request that presents a key."""

    def __init__(self, scope: Scope, known: KnownKeys) -> None:
        self._scope = scope
        self._services: Services = scope["app"].state.services
        settings = self._services.settings
        self._of_keys = Policy("key", settings.rate_per_minute, settings.rate_burst)
        self._of_failures = Policy("failures", settings.failures_per_minute, settings.failures_per_minute)
        self._address, self._known = network_of(address_of(scope)), known
        self._key_hash = find_key_hash(Headers(scope=scope))
        self.level: BucketState | None = None

    async def begin(self) -> BucketState | None:
        """The key's remaining tokens. Raises QuotaExceeded."""
        if self._key_hash not in self._known:
            await self._refuse_guesses()
        if self._key_hash is not None:
            self.level = await self._services.buckets.take(self._of_keys, self._key_hash)
        if self.level is not None and not self.level.taken:
            raise QuotaExceeded(
                f"Too many requests with this API key (limit: {self._of_keys.per_minute:,} per minute, "
                f"{self._of_keys.burst:,} at once). Wait as long as Retry-After says; `wait` and event streams save "
                "requests.",
                retry_after_seconds=self.level.seconds_until_next,
            )
        return self.level

    async def _refuse_guesses(self) -> None:
        level = await self._services.buckets.peek(self._of_failures, self._address)
        if level is not None and level.tokens < 1:
            raise QuotaExceeded(
                f"Too many invalid API keys from this address (limit: {self._of_failures.per_minute:,} per minute). "
                "Check the key, and wait as long as Retry-After says.",
                retry_after_seconds=level.seconds_until_next,
            )

    async def note(self, status: int) -> None:
        """Whether the key is valid: the gate found its owner. An open path may answer 200 to any key."""
        if status == 401:
            self._known.discard(self._key_hash or "")
            await self._services.buckets.take(self._of_failures, self._address, force=True)
        elif self._key_hash is not None and "caller" in self._scope.get("state", {}):
            self._known.add(self._key_hash)


def find_key_hash(headers: Headers) -> str | None:
    """None if the header does not even have the form of a key."""
    with suppress(Unauthenticated):
        key = read_key(headers)
        return hash_api_key(key) if check_api_key_format(key) else None
    return None


def network_of(address: str) -> str:
    with suppress(ValueError):
        parsed = ipaddress.ip_address(address.partition("%")[0])
        if parsed.version == 6 and parsed.ipv4_mapped is None:
            return str(ipaddress.ip_network((parsed, NETWORK_BITS), strict=False))
    return address


def ratelimit_headers(level: BucketState) -> dict[str, str]:
    policy = level.policy
    return {
        "RateLimit-Policy": f'"{policy.name}";q={policy.burst};w={policy.window_seconds}',
        "RateLimit": f'"{policy.name}";r={level.remaining};t={level.seconds_until_full}',
    }
