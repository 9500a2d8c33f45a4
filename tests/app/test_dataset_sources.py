"""POST /datasets with addresses: what is taken, and what a worker is given."""

from typing import Any

import pytest

from core.db import dataset_claims
from tests.app.conftest import LiveApi
from tests.app.factory import draw_png

URLS = ["https://example.com/a.png?token=secret", "https://example.com/set.zip"]


def test_a_worker_is_given_the_addresses(api: LiveApi) -> None:
    answer = api.client.post("/datasets", json={"name": "from afar", "urls": [*URLS, URLS[0]]})
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"/datasets/{made['id']}"
    assert (made["status"], made["name"], made["num_sources"], made["num_files"]) == ("validating", "from afar", 2, 0)
    assert "secret" not in answer.text
    claims = []
    with api.sessions.begin() as session:
        while (claim := dataset_claims.claim_validation(session, lease_seconds=3600)) is not None:
            claims.append(claim)
    [claim] = [claim for claim in claims if claim.id == made["id"]]
    assert claim.sources == dataset_claims.Sources(tuple(URLS), None) and claim.files == ()


def test_the_files_of_a_set_being_fetched_are_counted(api: LiveApi) -> None:
    made = api.client.post("/datasets", json={"urls": URLS}).json()
    with api.sessions.begin() as session:
        claim = next(
            claim
            for claim in iter(lambda: dataset_claims.claim_validation(session, lease_seconds=3600), None)
            if claim.id == made["id"]
        )
        dataset_claims.keep_file(session, claim, dataset_claims.NewFile("f", "a.png", "k", "0" * 64, 7))
    shown = api.client.get(f"/datasets/{made['id']}").json()
    assert (shown["num_files"], shown["size"], shown["num_sources"]) == (1, 7, 2)
    assert api.client.delete(f"/datasets/{made['id']}").status_code == 204


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"urls": []}, "/urls"),
        ({"urls": ["ftp://example.com/a.png"]}, "/urls/0"),
        ({"urls": ["https://example.com/a b.png"]}, "/urls/0"),
        ({"urls": ["https://example.com/a.png", 7]}, "/urls/1"),
        ({"urls": ["https://example.com/a.png"] * 1001}, "/urls"),
        ({"urls": "https://example.com/a.png"}, "/urls"),
        ({"url": "https://example.com/a.png"}, "/url"),
    ],
)
def test_what_is_not_a_list_of_addresses_is_refused(api: LiveApi, body: dict[str, Any], pointer: str) -> None:
    answer = api.client.post("/datasets", json=body)
    assert answer.status_code == 422 and pointer in answer.json()["errors"], answer.text


def test_without_addresses_it_is_open(api: LiveApi) -> None:
    made = api.client.post("/datasets", json={"name": "open", "urls": None})
    assert (made.status_code, made.json()["status"], made.json()["num_sources"]) == (201, "open", None)
    assert api.client.put(f"/datasets/{made.json()['id']}/files/a.png", content=draw_png()).status_code == 201
