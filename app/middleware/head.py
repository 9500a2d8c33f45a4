"""HEAD works wherever GET does (RFC 9110, 9.3.2): the same status and fields, and no content."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.methods import IS_HEAD


class HeadRequests:
    """Everything inside sees GET. A stream learns after its first message that the client has disconnected."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return
        answered = asyncio.Event()

        async def send_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                answered.set()

        async def receive_or_leave() -> Message:
            return await _first_of(receive, answered)

        asked = {**scope, "method": "GET", "state": {**scope.get("state", {}), IS_HEAD: True}}
        await self.app(asked, receive_or_leave, send_header)


async def _first_of(receive: Receive, answered: asyncio.Event) -> Message:
    """The next message, or the client's disconnect once the response header has been sent."""
    incoming, leaving = asyncio.ensure_future(receive()), asyncio.ensure_future(answered.wait())
    try:
        await asyncio.wait((incoming, leaving), return_when=asyncio.FIRST_COMPLETED)
        return {"type": "http.disconnect"} if answered.is_set() else incoming.result()
    finally:
        incoming.cancel()
        leaving.cancel()
