"""Made from ``atelier_client.transport`` by ``scripts/make_async_client.py``: change that, and run it again."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
from pydantic import ValidationError

from atelier_client.errors import (
    ConnectionFailed,
    UnexpectedAnswer,
)
from atelier_client.transport import (
    MAX_PAUSE_SECONDS,
    TIMEOUT,
    Parsed,
    _version,
    check,
    check_key,
    check_url,
    describe,
    is_loopback,
    read_pause,
)


class Transport:
    """Keeps one pool of connections. ``url`` may contain a path, for a service behind a proxy. ``find_url`` says where
    the service listens now, if nothing listens at ``url`` any more."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        transport: httpx.AsyncBaseTransport | None = None,
        find_url: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.url, self.find_url = url, find_url
        headers = {"User-Agent": f"atelier-client/{_version()}", "Accept": "application/json"}
        if api_key:
            check_key(api_key)
            headers["Authorization"] = f"Bearer {api_key}"
        self.http = httpx.AsyncClient(
            base_url=check_url(url),
            headers=headers,
            timeout=TIMEOUT,
            follow_redirects=True,
            transport=transport,
            trust_env=not is_loopback(url),  # requests to this machine bypass the environment's proxy
        )

    async def get(self, path: str, model: type[Parsed], **options: Any) -> Parsed:
        return await self.ask("GET", path, model, **options)

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Waits for the rate limit and repeats the request, except an upload. Raises ApiError, ConnectionFailed or
        UnexpectedAnswer."""
        deadline = time.monotonic() + MAX_PAUSE_SECONDS
        while True:
            with self.connecting():
                response = await self.request(method, path, **options)
            pause = read_pause(response, deadline)
            if pause is None or "files" in options:
                break
            await asyncio.sleep(pause)
        check(response)
        if response.request.method != method:  # 302 and 303 turn it into a GET, which succeeds and changes nothing
            raise UnexpectedAnswer(f"{self.url} redirects to {response.url.join('/')}: set ATELIER_URL to that.")
        return response

    async def ask(self, method: str, path: str, model: type[Parsed], **options: Any) -> Parsed:
        """Like ``send``, but parses the answer."""
        response = await self.send(method, path, **options)
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise UnexpectedAnswer(f"{self.url} did not answer as Atelier does: {describe(error)}") from error

    @contextlib.asynccontextmanager
    async def stream(self, path: str, **options: Any) -> AsyncIterator[httpx.Response]:
        """An open response whose body has not been read. Waits as ``send`` does."""
        deadline = time.monotonic() + MAX_PAUSE_SECONDS
        while True:
            with self.connecting():
                async with contextlib.aclosing(await self.request("GET", path, stream=True, **options)) as response:
                    pause = read_pause(response, deadline)
                    if pause is None:
                        if response.is_error:
                            await response.aread()
                        check(response)
                        yield response
                        return
            await asyncio.sleep(pause)

    async def request(self, method: str, path: str, *, stream: bool = False, **options: Any) -> httpx.Response:
        """Sends a request; if nothing listens there, sends it to where the service has moved. Raises httpx's errors."""
        try:
            return await self.http.send(self.http.build_request(method, path, **options), stream=stream)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if not self.follow_move():
                raise
            return await self.http.send(self.http.build_request(method, path, **options), stream=stream)

    def follow_move(self) -> bool:
        """Whether the service has another address now. Raises InputError if that address is invalid."""
        url = self.find_url()
        if url is None or url == self.url:
            return False
        self.http.base_url = check_url(url)
        self.url = url
        return True

    @contextlib.contextmanager
    def connecting(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise ConnectionFailed(
                f"No service answers at {self.url}. Start one with `atelier up`, or set ATELIER_URL."
            ) from error
        except httpx.TimeoutException as error:
            raise ConnectionFailed(f"{self.url} did not answer in time. Try again in a moment.") from error
        except httpx.TransportError as error:
            raise ConnectionFailed(f"The connection to {self.url} broke ({error}). Try again.") from error
        except httpx.TooManyRedirects as error:
            raise UnexpectedAnswer(f"{self.url} redirects without end; check ATELIER_URL.") from error
