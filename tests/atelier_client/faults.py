"""What may lie between a client and the service: transports that pass everything on, but for one fault."""

from collections.abc import Callable, Iterator

import httpx


class FaultyTransport(httpx.BaseTransport):
    """Hands each answer, still open, to ``spoil``, which may return another."""

    def __init__(self, spoil: Callable[[httpx.Request, httpx.Response], httpx.Response]) -> None:
        self._real = httpx.HTTPTransport()
        self._spoil = spoil

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._spoil(request, self._real.handle_request(request))

    def close(self) -> None:
        self._real.close()


class RestartingService(FaultyTransport):
    """What is asked for first meets nobody, then a proxy's page; ``left`` are the faults that nobody met."""

    def __init__(self) -> None:
        super().__init__(self._fail)
        self.left = ["page", "nobody"]

    def _fail(self, request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if request.method != "GET" or not self.left:
            return response
        response.close()
        if self.left.pop() == "nobody":
            raise httpx.ConnectError("refused")
        return httpx.Response(502, html="<h1>nginx</h1>")


class Blocks(httpx.SyncByteStream):
    """A body in pieces; may raise in the middle."""

    def __init__(self, blocks: Iterator[bytes], close: Callable[[], None]) -> None:
        self._blocks, self._close = blocks, close

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def close(self) -> None:
        self._close()


def change_body(response: httpx.Response, change: Callable[[Iterator[bytes]], Iterator[bytes]]) -> httpx.Response:
    stream = response.stream
    assert isinstance(stream, httpx.SyncByteStream)
    return httpx.Response(
        response.status_code, headers=response.headers, stream=Blocks(change(iter(stream)), stream.close)
    )
