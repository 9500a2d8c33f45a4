"""Requests to addresses that clients chose: only to the public internet, and only to the checked addresses.

The name is resolved once, each of its addresses is checked, and the connection goes to one of exactly these addresses,
so that a second answer of the resolver (DNS rebinding) changes nothing. No proxies of the environment, and no
connection that is used twice. A message follows no redirect, and has one time limit for the response and a short one
for its body; a file follows some, each of them checked as the first address is, and has one time limit for all.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urldefrag, urljoin

import httpx

from core.domain.receivers import Address, AllowList, Receiver

MAX_ADDRESSES = 3
"""Addresses of one name, tried in turn."""
CONNECT_SECONDS = 5.0
MAX_READ_BYTES = 16 * 1024
"""Of a response: a short body is read to its end, a long or slow one is abandoned."""
READ_SECONDS = 2.0
EXCERPT_BYTES = 1024
MAX_LOOKUPS = 32
MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

Resolve = Callable[[str, int], Sequence[str]]
Take = Callable[[bytes], None]
"""Gets each piece of a file. It may raise NotSent."""
T = TypeVar("T")

# It logs every request with its whole address, which may contain a token of the receiver.
logging.getLogger("httpx").setLevel(logging.WARNING)


class NotSent(Exception):
    """There was no response; the message says why, for the owner of the address."""


@dataclass(frozen=True)
class Answer:
    """``excerpt``: the first EXCERPT_BYTES of the body as text, without control characters."""

    status_code: int
    excerpt: str


@dataclass(frozen=True)
class FetchedFile:
    """``media_type``: as the server states it, without parameters; may be empty."""

    media_type: str
    size: int


@dataclass(frozen=True)
class SizeLimit:
    """``explanation``: what follows "it is larger than 100 bytes, "."""

    max_bytes: int
    explanation: str


FindLimit = Callable[[str], SizeLimit | None]
"""The limit for a file of the media type that the server states; None if such files are not taken."""


class Outgoing:
    """The sender. ``resolve`` and ``ssl_context`` are the system's unless given."""

    def __init__(
        self,
        allow: AllowList,
        *,
        timeout_seconds: float,
        resolve: Resolve | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._allow, self._timeout_seconds, self._resolve = allow, timeout_seconds, resolve or resolve_host
        self._ssl_context = ssl_context or httpx.create_ssl_context()
        # A pool of its own, so that slow names delay no other work of the event loop's threads.
        self._lookups = ThreadPoolExecutor(MAX_LOOKUPS, thread_name_prefix="lookup")

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Raises NotSent."""
        try:
            async with asyncio.timeout(self._timeout_seconds) as limit:
                receiver = Receiver.parse(url)
                return await self._reach(
                    receiver, lambda address: self._post_once(receiver, address, body, headers, limit)
                )
        except TimeoutError:
            raise NotSent(f"no response within {self._timeout_seconds:g} s") from None
        except ValueError as error:
            raise NotSent(f"the address cannot be used: {error}") from None

    async def fetch(self, url: str, take: Take, find_limit: FindLimit) -> FetchedFile:
        """Gives the file at the address to ``take``, piece by piece. Raises NotSent."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                for _ in range(MAX_REDIRECTS + 1):
                    receiver = Receiver.parse(url)
                    once = partial(self._fetch_once, receiver, take=take, find_limit=find_limit)
                    found = await self._reach(receiver, once)
                    if isinstance(found, FetchedFile):
                        return found
                    url = _follow(url, found)
                raise NotSent(f"it is redirected more than {MAX_REDIRECTS} times")
        except TimeoutError:
            raise NotSent(f"it did not arrive within {self._timeout_seconds:g} s") from None
        except ValueError as error:
            raise NotSent(f"the address cannot be used: {error}") from None

    async def _find_addresses(self, receiver: Receiver) -> Sequence[Address]:
        """All of them must be allowed. A failing resolver counts as a refusal."""
        if receiver.address is not None:
            addresses: Sequence[Address] = [receiver.address]
        else:
            loop = asyncio.get_running_loop()
            try:
                found = await loop.run_in_executor(self._lookups, self._resolve, receiver.host, receiver.port)
                addresses = [ip_address(text) for text in found]
            except (OSError, UnicodeError, ValueError):
                raise NotSent(f"the name {receiver.host} could not be resolved") from None
        if not addresses:
            raise NotSent(f"the name {receiver.host} has no address")
        if (refusal := self._allow.find_refusal(receiver, addresses)) is not None:
            raise NotSent(f"refused: {refusal}")
        return addresses[:MAX_ADDRESSES]

    async def _reach(self, receiver: Receiver, call: Callable[[Address], Awaitable[T]]) -> T:
        """The next address is tried only if no connection was made, so that nothing is sent twice."""
        trouble = NotSent("no connection")
        for address in await self._find_addresses(receiver):
            try:
                return await call(address)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                trouble = NotSent(_describe(error))
            except httpx.HTTPError as error:
                raise NotSent(_describe(error)) from None
        raise trouble

    async def _post_once(
        self,
        receiver: Receiver,
        address: Address,
        body: bytes,
        headers: Mapping[str, str],
        limit: asyncio.Timeout,
    ) -> Answer:
        """``limit`` is for the response; the excerpt has its own, since by then the receiver has the message."""
        async with self._open("POST", receiver, address, headers, body) as response:
            if not limit.expired():
                limit.reschedule(None)
            return Answer(response.status_code, await _read_excerpt(response))

    async def _fetch_once(
        self, receiver: Receiver, address: Address, take: Take, find_limit: FindLimit
    ) -> FetchedFile | str:
        """The file, or where it is instead."""
        async with self._open("GET", receiver, address, {}) as response:
            if response.status_code in _REDIRECTS and "location" in response.headers:
                return response.headers["location"]
            media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            limit = _refuse(response, media_type, find_limit)
            size = 0
            assert isinstance(response.stream, httpx.AsyncByteStream)
            async for chunk in response.stream:
                size += len(chunk)
                if size > limit.max_bytes:
                    raise _too_large(limit)
                take(chunk)
            return FetchedFile(media_type, size)

    @contextlib.asynccontextmanager
    async def _open(
        self, method: str, receiver: Receiver, address: Address, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[httpx.Response]:
        """Raises httpx.HTTPError."""
        transport = httpx.AsyncHTTPTransport(verify=self._ssl_context, http2=False, trust_env=False)
        request = httpx.Request(
            method,
            _address_url(receiver, address),
            content=body,
            headers={
                "Host": receiver.authority,
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                "Connection": "close",
                **headers,
            },
            # The certificate is checked against the name, not against the address that is called.
            extensions={
                "sni_hostname": receiver.host,
                "timeout": httpx.Timeout(self._timeout_seconds, connect=CONNECT_SECONDS).as_dict(),
            },
        )
        async with transport:
            response = await transport.handle_async_request(request)
            try:
                yield response
            finally:
                await response.aclose()


def resolve_host(host: str, port: int) -> Sequence[str]:
    """Every address once, in the system's order. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _address_url(receiver: Receiver, address: Address) -> httpx.URL:
    host = f"[{address}]" if address.version == 6 else str(address)
    return httpx.URL(f"{receiver.scheme}://{host}:{receiver.port}").copy_with(raw_path=receiver.target.encode("ascii"))


def _follow(url: str, location: str) -> str:
    """Raises NotSent, and ValueError for what is no address at all."""
    target = urldefrag(urljoin(url, location)).url
    if url.lower().startswith("https:") and not target.lower().startswith("https:"):
        raise NotSent("it is redirected from https to an address without encryption")
    return target


def _refuse(response: httpx.Response, media_type: str, find_limit: FindLimit) -> SizeLimit:
    """By what stands before the body; the limit for what does. Raises NotSent."""
    if response.status_code != HTTPStatus.OK:
        raise NotSent(f"the server answered {response.status_code}")
    if response.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        raise NotSent("the server sent it compressed, which was not asked for")
    if (limit := find_limit(media_type)) is None:
        raise NotSent(f"it is {media_type[:80]}, and not an image, an archive or a caption")
    stated = response.headers.get("content-length", "")
    if stated.isdecimal() and int(stated[:20]) > limit.max_bytes:
        raise _too_large(limit)
    return limit


def _too_large(limit: SizeLimit) -> NotSent:
    return NotSent(f"it is larger than {limit.max_bytes:,} bytes, {limit.explanation}")


async def _read_excerpt(response: httpx.Response) -> str:
    """As received: compressed bodies stay compressed. A response that breaks off later still counts."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    body = bytearray()
    with contextlib.suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(READ_SECONDS):
            async for chunk in response.stream:
                body += chunk
                if len(body) >= MAX_READ_BYTES:
                    break
    text = bytes(body[:EXCERPT_BYTES]).decode("utf-8", errors="replace")
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def _describe(error: httpx.HTTPError) -> str:
    match error:
        case httpx.ConnectTimeout():
            return "the connection took too long"
        case httpx.ConnectError():
            return f"no connection: {_shorten(error)}"
        case _:
            return f"the connection broke: {_shorten(error)}"


def _shorten(error: Exception) -> str:
    return (str(error) or type(error).__name__)[:200]
