"""A captioning is followed by its stream, also over one that breaks."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from atelier_client import ApiError, AsyncAtelierClient, AtelierClient
from atelier_client.captions import Captioning
from core.db import captioning_claims
from core.queue import progress_channel
from tests.app.conftest import LiveApi, open_client
from tests.app.factory import add_captioner, add_dataset
from tests.app.world import claim_captioning
from tests.atelier_client.faults import FaultyTransport, change_body
from tests.fixtures.running_api import RunningApi


@pytest.fixture
def api(running_api: RunningApi) -> Iterator[LiveApi]:
    with open_client(running_api.url, running_api.api_key) as client:
        yield LiveApi.of_process(running_api, client)


class Play:
    """The worker's part: two captions after the first state that was seen, and a cancel after the second."""

    def __init__(self, api: LiveApi, captioning_id: str) -> None:
        self.api, self.id = api, captioning_id
        self.seen: list[tuple[str, int]] = []

    def go_on(self, state: Captioning) -> None:
        self.seen.append((state.status, state.num_done))
        if len(self.seen) == 1:
            claim = claim_captioning(self.api, self.id)
            with self.api.sessions.begin() as session:
                captioning_claims.report_progress(session, claim, num_done=2)
            self.api.broker.publish(progress_channel(self.id), b"")
        elif len(self.seen) == 2:
            self.api.client.post(f"/captionings/{self.id}/cancel").raise_for_status()


ALL = [("queued", 0), ("running", 2), ("canceled", 2)]


def test_each_state_comes_once_over_a_stream_that_breaks(api: LiveApi) -> None:
    asked: list[str] = []

    def break_the_first(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return response
        asked.append(request.headers["last-event-id"])
        return change_body(response, cut) if len(asked) == 1 else response

    def cut(blocks: Iterator[bytes]) -> Iterator[bytes]:
        yield next(blocks)
        raise httpx.ReadError("the line broke")

    with AtelierClient(api.url, api.api_key, transport=FaultyTransport(break_the_first)) as client:
        made = client.caption_dataset(add_dataset(api, captions=False), {"captioner": add_captioner(api)})
        play = Play(api, made.id)
        for state in client.watch_captioning(made.id):
            play.go_on(state)
        assert play.seen == ALL
        assert len(asked) == 2 and asked[0] == "" and asked[1] != ""
        with pytest.raises(ApiError, match="no captioning"):
            next(client.watch_captioning("cap_none"))


def test_the_asynchronous_client_has_it_too(api: LiveApi) -> None:
    async def watch() -> list[tuple[str, int]]:
        async with AsyncAtelierClient(api.url, api.api_key) as client:
            dataset = add_dataset(api, captions=False)
            made = await client.caption_dataset(dataset, {"captioner": add_captioner(api)})
            play = Play(api, made.id)
            async for state in client.watch_captioning(made.id):
                play.go_on(state)
            return play.seen

    assert asyncio.run(watch()) == ALL
