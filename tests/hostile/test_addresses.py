"""Requests forged through the service: no address but a public one is taken, or called, whoever names it."""

import asyncio
from collections.abc import Sequence

import pytest

from core.domain.receivers import AllowList
from tests.app.conftest import LiveApi
from tests.app.test_jobs import refuse
from tests.hostile.addresses import FORBIDDEN, HIDDEN, UNREADABLE
from worker.outgoing import NotSent, Outgoing


def name_receiver(api: LiveApi, url: str):
    return api.client.post("/jobs", json={"model": "toy", "dataset": "ds_1", "webhook": {"url": url}})


def test_addresses_that_are_not_called(api: LiveApi, subtests: pytest.Subtests) -> None:
    for url in FORBIDDEN:
        with subtests.test(url):
            problem = refuse(name_receiver(api, url), 422, "url-forbidden")
            assert list(problem["errors"]) == ["/webhook/url"]


def test_addresses_that_can_be_read_in_two_ways(api: LiveApi, subtests: pytest.Subtests) -> None:
    for url in UNREADABLE:
        with subtests.test(url):
            problem = refuse(name_receiver(api, url), 422, "invalid-spec")
            assert list(problem["errors"]) == ["/webhook/url"]


def fetch(api: LiveApi, url: str):
    return api.client.post("/datasets", json={"urls": ["https://example.com/a.png", url]})


def test_addresses_that_no_dataset_is_fetched_from(api: LiveApi, subtests: pytest.Subtests) -> None:
    """tests/worker/datasets/test_sources.py has the worker's own refusal of each of them, and of redirects."""
    for url in FORBIDDEN:
        with subtests.test(url):
            problem = refuse(fetch(api, url), 422, "url-forbidden")
            assert list(problem["errors"]) == ["/urls/1"]


def test_addresses_of_files_that_can_be_read_in_two_ways(api: LiveApi, subtests: pytest.Subtests) -> None:
    for url in UNREADABLE:
        with subtests.test(url):
            problem = refuse(fetch(api, url), 422, "invalid-request")
            assert list(problem["errors"]) == ["/urls/1"]


def test_there_is_no_other_field_that_takes_an_address(api: LiveApi) -> None:
    """Models come as files, or from the operator's folders, and datasets from `urls`: what else looks like an address
    is none."""
    for path, body in (
        ("/datasets", {"name": "a", "url": "http://127.0.0.1/"}),
        ("/datasets", {"name": "a", "files": ["http://127.0.0.1/a.zip"]}),
        ("/jobs", {"model": "http://127.0.0.1/", "dataset": "http://127.0.0.1/a.zip", "trigger": "x"}),
        ("/jobs", {"model": "toy", "dataset": "ds_1", "init_adapter": "http://127.0.0.1/a.safetensors"}),
    ):
        assert api.client.post(path, json=body).status_code in {404, 422}, body


@pytest.mark.parametrize("others", [(), ("8.8.8.8",)], ids=["alone", "beside a public one"])
def test_a_name_that_leads_to_one_is_not_called(others: tuple[str, ...]) -> None:
    """At every delivery, and whichever place it has in the resolver's answer."""
    answers: list[Sequence[str]] = [order for text in HIDDEN for order in ((*others, text), (text, *others))]
    asked = iter(answers)
    outgoing = Outgoing(AllowList(), timeout_seconds=30, resolve=lambda host, port: next(asked))

    async def post_all() -> None:
        for answer in answers:
            with pytest.raises(NotSent, match="refused: "):
                await outgoing.post("http://innocent.example/hook", b"{}", {})
            assert answer

    asyncio.run(post_all())
    assert next(asked, None) is None, "each name was resolved once"
