"""Sends single requests to the service. Every failure becomes a ``ClientError``."""

import contextlib
import importlib.metadata
import ipaddress
import re
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from atelier_client.errors import (
    PASSING_STATUSES,
    ApiError,
    ConnectionFailed,
    InputError,
    UnexpectedAnswer,
    parse_problem,
)
from atelier_client.models import Answer

TIMEOUT = httpx.Timeout(60.0, connect=10.0)
UPLOAD_TIMEOUT = httpx.Timeout(60.0, connect=10.0, read=600.0)
"""The service answers an upload only after it has stored the whole body."""

MAX_PAUSE_SECONDS = 30.0
"""How long one request waits for the rate limit. When a quota resets only at midnight, the error is raised at once."""

Parsed = TypeVar("Parsed", bound=Answer)


class Transport:
    """Keeps one pool of connections. ``url`` may contain a path, for a service behind a proxy. ``find_url`` says where
    the service listens now, if nothing listens at ``url`` any more."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        transport: httpx.BaseTransport | None = None,
        find_url: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.url, self.find_url = url, find_url
        headers = {"User-Agent": f"atelier-client/{_version()}", "Accept": "application/json"}
        if api_key:
            check_key(api_key)
            headers["Authorization"] = f"Bearer {api_key}"
        self.http = httpx.Client(
            base_url=check_url(url),
            headers=headers,
            timeout=TIMEOUT,
            follow_redirects=True,
            transport=transport,
            trust_env=not is_loopback(url),  # requests to this machine bypass the environment's proxy
        )

    def get(self, path: str, model: type[Parsed], **options: Any) -> Parsed:
        return self.ask("GET", path, model, **options)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Waits for the rate limit and repeats the request, except an upload. Raises ApiError, ConnectionFailed or
        UnexpectedAnswer."""
        deadline = time.monotonic() + MAX_PAUSE_SECONDS
        while True:
            with self.connecting():
                response = self.request(method, path, **options)
            pause = read_pause(response, deadline)
            if pause is None or "files" in options:
                break
            time.sleep(pause)
        check(response)
        if response.request.method != method:  # 302 and 303 turn it into a GET, which succeeds and changes nothing
            raise UnexpectedAnswer(f"{self.url} redirects to {response.url.join('/')}: set ATELIER_URL to that.")
        return response

    def ask(self, method: str, path: str, model: type[Parsed], **options: Any) -> Parsed:
        """Like ``send``, but parses the answer."""
        response = self.send(method, path, **options)
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            raise UnexpectedAnswer(f"{self.url} did not answer as Atelier does: {describe(error)}") from error

    @contextlib.contextmanager
    def stream(self, path: str, **options: Any) -> Iterator[httpx.Response]:
        """An open response whose body has not been read. Waits as ``send`` does."""
        deadline = time.monotonic() + MAX_PAUSE_SECONDS
        while True:
            with self.connecting():  # noqa: SIM117 - the asynchronous client has two kinds of `with` here
                with contextlib.closing(self.request("GET", path, stream=True, **options)) as response:
                    pause = read_pause(response, deadline)
                    if pause is None:
                        if response.is_error:
                            response.read()
                        check(response)
                        yield response
                        return
            time.sleep(pause)

    def request(self, method: str, path: str, *, stream: bool = False, **options: Any) -> httpx.Response:
        """Sends a request; if nothing listens there, sends it to where the service has moved. Raises httpx's errors."""
        try:
            return self.http.send(self.http.build_request(method, path, **options), stream=stream)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if not self.follow_move():
                raise
            return self.http.send(self.http.build_request(method, path, **options), stream=stream)

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


def quote(some_id: str) -> str:
    """Escapes an id, so that it stays one segment of a path."""
    return urllib.parse.quote(some_id, safe="")


def read_pause(response: httpx.Response, deadline: float) -> float | None:
    """How many seconds to wait before repeating a request that was rate-limited (429) and so had no effect. None if it
    was not, or if the pause would end after ``deadline`` (monotonic)."""
    retry_after = response.headers.get("Retry-After", "")
    if response.status_code != httpx.codes.TOO_MANY_REQUESTS or not retry_after.isdecimal():
        return None
    pause = max(0.1, float(retry_after))
    return pause if time.monotonic() + pause <= deadline else None


def check_key(api_key: str) -> None:
    """Raises InputError for a malformed key; the message does not contain the key."""
    if not re.fullmatch(r"[!-~]+", api_key):
        raise InputError("The API key has characters that no key has; copy it again.")


def check_url(url: str) -> httpx.URL:
    """Raises InputError unless ``url`` is an http or https address."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InputError(f"{url!r} is not an address: {error}.") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InputError(f"{url!r} is not an address. It starts with http:// or https://.")
    return parsed


def is_loopback(url: str) -> bool:
    host = check_url(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check(response: httpx.Response) -> None:
    """Raises ApiError for an error with a problem document; ConnectionFailed for a proxy's error that says that the
    service does not answer; UnexpectedAnswer for any other error."""
    if not response.is_error:
        return
    try:
        problem = parse_problem(response.status_code, response.json())
    except ValueError:
        problem = None
    if problem is not None:
        raise ApiError(problem)
    answer = f"{response.url.copy_with(query=None)} answered {response.status_code} {response.reason_phrase}"
    if response.status_code in PASSING_STATUSES:
        raise ConnectionFailed(f"{answer}: a proxy gets no answer from the service. Try again in a moment.")
    raise UnexpectedAnswer(f"{answer}, but not as Atelier does. Check ATELIER_URL.")


def describe(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the answer'}: {first['msg']}"


def _version() -> str:
    try:
        return importlib.metadata.version("atelier-client")
    except importlib.metadata.PackageNotFoundError:
        return "dev"
