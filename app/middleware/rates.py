"""Rate limits for keys, and for failed keys by address, before anything else of a request is read.

A key's bucket is found by the key's hash, so that a flood costs no query. Response fields:
draft-ietf-httpapi-ratelimit-headers, with ``q`` the burst and ``w`` the seconds in which an empty bucket fills.
"""

import ipaddress
from collections import OrderedDict
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.auth import sessions
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


class KnownSessions:
    """Keys' hashes by the hashes of dashboard sessions' tokens: a key's sessions and the key share one bucket."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, str] = OrderedDict()

    def add(self, token_hash: str, key_hash: str) -> None:
        self._keys[token_hash] = key_hash
        self._keys.move_to_end(token_hash)
        if len(self._keys) > KNOWN_KEYS:
            self._keys.popitem(last=False)

    def find(self, token_hash: str) -> str | None:
        """None at a session's first request in a process: whether the token is one is not known yet."""
        return self._keys.get(token_hash)


class RateLimits:
    """Answers 429 itself; outside of the error handling, so that it sees every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._known, self._sessions = KnownKeys(), KnownSessions()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_attempt(scope):
            await self.app(scope, receive, send)
            return
        attempt = LimitedRequest(scope, self._known, self._sessions)
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
    """Whether a key is presented, or a session to the API. Routes that need none are not counted."""
    if scope["path"] == LOGIN_PATH:
        return bool(scope["method"] == "POST")
    is_api = not is_open(scope["path"])
    if "authorization" in Headers(scope=scope):
        return is_api or scope["path"].startswith("/ui/")
    return is_api and sessions.read_cookie(Request(scope)) is not None


class LimitedRequest:
    """One request that presents a key or a session."""

    def __init__(self, scope: Scope, known: KnownKeys, known_sessions: KnownSessions) -> None:
        self._scope = scope
        self._services: Services = scope["app"].state.services
        settings = self._services.settings
        self._of_keys = Policy("key", settings.rate_per_minute, settings.rate_burst)
        self._of_failures = Policy("failures", settings.failures_per_minute, settings.failures_per_minute)
        self._address, self._known = network_of(address_of(scope)), known
        self._sessions, self._token_hash = known_sessions, find_token_hash(scope)
        # made-up tokens of one address share its bucket
        of_session = (known_sessions.find(self._token_hash) or self._address) if self._token_hash else None
        self._key_hash = of_session or find_key_hash(Headers(scope=scope))
        self.level: BucketState | None = None

    async def begin(self) -> BucketState | None:
        """The key's remaining tokens. Raises QuotaExceeded."""
        if self._token_hash is None and self._key_hash not in self._known:
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
        """Whether the key is valid: the gate found its owner. An open path may answer 200 to any key. An ended session
        is not a guess: a page of pictures would lock its reader out of the login."""
        if self._token_hash is not None:
            if (browser_session := self._scope.get("state", {}).get("browser_session")) is not None:
                self._sessions.add(self._token_hash, browser_session.key_sha256)
        elif status == 401:
            self._known.discard(self._key_hash or "")
            await self._services.buckets.take(self._of_failures, self._address, force=True)
        elif self._key_hash is not None and "caller" in self._scope.get("state", {}):
            self._known.add(self._key_hash)


def find_token_hash(scope: Scope) -> str | None:
    """Of the dashboard session that the gate will look at: there is no key, and the path is the API's."""
    token = sessions.read_cookie(Request(scope))
    if token is None or "authorization" in Headers(scope=scope) or is_open(scope["path"]):
        return None
    return sessions.hash_token(token)


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
