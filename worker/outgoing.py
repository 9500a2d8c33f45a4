"""Requests to addresses that clients chose: only to the public internet, and only to the checked addresses.

The name is resolved once, each of its addresses is checked, and the connection goes to one of exactly these addresses,
so that a second answer of the resolver (DNS rebinding) changes nothing. No redirects, no proxies of the environment,
no connection that is used twice, one time limit for the response, and a short one for its body.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address

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

Resolve = Callable[[str, int], Sequence[str]]

# It logs every request with its whole address, which may contain a token of the receiver.
logging.getLogger("httpx").setLevel(logging.WARNING)


class NotSent(Exception):
    """There was no response; the message says why, for the owner of the address."""


@dataclass(frozen=True)
class Answer:
    """``excerpt``: the first EXCERPT_BYTES of the body as text, without control characters."""

    status_code: int
    excerpt: str


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
                return await self._post_to(receiver, await self._find_addresses(receiver), body, headers, limit)
        except TimeoutError:
            raise NotSent(f"no response within {self._timeout_seconds:g} s") from None
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

    async def _post_to(
        self,
        receiver: Receiver,
        addresses: Sequence[Address],
        body: bytes,
        headers: Mapping[str, str],
        limit: asyncio.Timeout,
    ) -> Answer:
        """The next address is tried only if no connection was made, so that nothing is sent twice."""
        trouble = NotSent("no connection")
        for address in addresses:
            try:
                return await self._post_once(receiver, address, body, headers, limit)
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
        transport = httpx.AsyncHTTPTransport(verify=self._ssl_context, http2=False, trust_env=False)
        request = httpx.Request(
            "POST",
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
            if not limit.expired():
                limit.reschedule(None)
            try:
                return Answer(response.status_code, await _read_excerpt(response))
            finally:
                await response.aclose()


def resolve_host(host: str, port: int) -> Sequence[str]:
    """Every address once, in the system's order. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _address_url(receiver: Receiver, address: Address) -> httpx.URL:
    host = f"[{address}]" if address.version == 6 else str(address)
    return httpx.URL(f"{receiver.scheme}://{host}:{receiver.port}").copy_with(raw_path=receiver.target.encode("ascii"))


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
