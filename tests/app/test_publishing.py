"""POST /adapters/{id}/publish: to a server that speaks the Hub's HTTP, by the worker's real program."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import yaml
from pydantic import SecretStr
from redis import Redis

from core.db import leases, publications
from core.db.session import make_sessions, open_engine
from core.domain.publication import PublishAnswer, PublishOrder
from core.logs import Redactor
from core.settings import Settings
from tests.app.conftest import LiveApi, workers_url
from tests.app.factory import MODEL, Worker, submit
from tests.app.test_adapters import import_ready
from tests.app.test_jobs import refuse
from tests.app.test_merges import claim_merge, make, merge
from tests.fixtures.hub import TOKEN, Hub, serve_hub
from worker import program
from worker.consumer import Consumer
from worker.publications import ENVIRONMENT, PROGRAM, Publishing


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve_hub() as hub:
        yield hub


@pytest.fixture
def service(start_api: Callable[..., LiveApi], hub: Hub) -> LiveApi:
    return start_api(hub_url=hub.url)


def publish(api: LiveApi, adapter_id: str, **fields: Any) -> httpx.Response:
    body = {"repo_id": "studio/blip", "token": TOKEN, **fields}
    return api.client.post(f"/adapters/{adapter_id}/publish", json=body)


def make_consumer(api: LiveApi, **changes: Any) -> Consumer[Any, Any]:
    """A worker's, with its own way to the database."""
    url = workers_url(api)
    settings: Settings = api.settings.model_copy(update={"database_url": url, "heartbeat_seconds": 0.2, **changes})
    return Consumer(Publishing, settings, make_sessions(open_engine(url, pool_size=2)), api.storage, threading.Event())


def publish_and_wait(api: LiveApi, adapter_id: str, **fields: Any) -> dict[str, Any]:
    answer = publish(api, adapter_id, **fields)
    assert answer.status_code == 202, answer.text
    assert make_consumer(api).run_next()
    return dict(api.client.get(answer.headers["location"]).json())


def train(api: LiveApi, **spec: Any) -> str:
    """A job's adapter, with samples."""
    job = submit(api, **spec)
    worker = Worker(api, job["id"])
    worker.sample(0)
    worker.sample(10)
    worker.succeed()
    return str(api.client.get(f"/jobs/{job['id']}").json()["result"]["adapter_id"])


def read_card(hub: Hub, repo_id: str = "studio/blip") -> tuple[dict[str, Any], str]:
    text = hub.repositories[repo_id].files["README.md"].decode()
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_an_adapter_is_published_with_its_card_and_pictures(service: LiveApi, hub: Hub) -> None:
    adapter_id = train(service, name="My toy")
    service.client.patch(f"/adapters/{adapter_id}", json={"tags": ["mascot"], "license": "openrail++"})
    done = publish_and_wait(service, adapter_id, base_model="stabilityai/toy-base")
    assert (done["status"], done["error"], done["url"]) == ("published", None, f"{hub.url}/studio/blip")
    repository = hub.repositories["studio/blip"]
    assert repository.private and done["commit"] == repository.head and repository.commits == ["Publish My toy"]
    assert set(repository.files) == {
        ".gitattributes", "README.md", "My-toy.safetensors", "pytorch_lora_weights.safetensors", "images/0.png",
    }  # fmt: skip
    files = service.client.get(f"/adapters/{adapter_id}").json()["files"]
    for name, kind in (("My-toy.safetensors", "kohya"), ("pytorch_lora_weights.safetensors", "diffusers")):
        assert repository.files[name] == service.client.get(files[kind]["url"]).content
        assert name in repository.in_lfs
    front, body = read_card(hub)
    assert front == {
        "license": "openrail++",
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "base_model": "stabilityai/toy-base",
        "base_model_relation": "adapter",
        "instance_prompt": "toy",
        "tags": ["text-to-image", "diffusers", "lora", "template:sd-lora", "stable-diffusion", "mascot"],
        "widget": [{"text": "a toy", "output": {"url": "images/0.png"}}],
    }
    assert "10 steps of batch" in body and MODEL.sha256 in body and "weight_name='pytorch_lora_weights" in body
    listed = service.client.get(f"/adapters/{adapter_id}/publications").json()["data"]
    assert listed == [done]


def test_a_token_is_nowhere_but_at_the_hub(
    service: LiveApi, hub: Hub, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    adapter_id = train(service)
    said, seen = [], []
    with caplog.at_level(logging.DEBUG):
        answer = publish(service, adapter_id)
        redis = Redis.from_url(service.settings.redis_url)
        keys = [key for key in redis.keys("*") if redis.type(key) == b"string"]
        kept = [redis.get(key) or b"" for key in keys]
        seen.append(dump(service))
        assert any(answer.json()["id"].encode() in key for key in keys), "the share is looked for where it is"
        assert redis.ttl(f"atelier:share:{answer.json()['id']}") > 3000
        consumer = make_consumer(service)
        hub.fail[("POST", "/api/repos/create")] = 403
        assert consumer.run_next()
        said.append(service.client.get(answer.headers["location"]).text)
        hub.fail.clear()
        again = publish(service, adapter_id)
        assert consumer.run_next()
    said += [answer.text, again.text, service.client.get(f"/adapters/{adapter_id}/publications").text]
    seen.append(dump(service))
    assert ("POST", "/api/repos/create", f"Bearer {TOKEN}") in hub.requests
    output = capfd.readouterr()
    places = [*said, *seen, output.out, output.err, caplog.text, "".join(caplog.messages)]
    places += [service.client.get("/audit").text, *(content.decode("latin-1") for content in kept)]
    for text in places:
        assert TOKEN not in text and TOKEN.encode().hex() not in text
    with service.sessions() as session:
        shares = session.execute(sa.text("SELECT token_share FROM publications")).scalars().all()
    assert shares == [None, None]
    assert not [key for key in redis.keys("*") if b"share" in key]


def dump(api: LiveApi) -> str:
    """Every row of every table, bytes in hexadecimal."""
    url = sa.make_url(workers_url(api))
    with api.sessions() as session:
        names = session.execute(sa.text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
        assert "publications" in names and url.database
        rows = [session.execute(sa.text(f"SELECT t::text FROM {name} t")).scalars().all() for name in names]
    text = json.dumps(rows)
    assert "studio/blip" in text
    return text


@pytest.mark.parametrize(
    ("place", "status", "words"),
    [
        (("POST", "/api/repos/create"), 401, "does not know the token (401)"),
        (("POST", "/api/repos/create"), 403, "may not write to studio/blip (403)"),
        (("POST", "/preupload/"), 403, "may not write to studio/blip (403)"),
        (("POST", "/commit/"), 409, "at the same moment (409)"),
        (("POST", "/objects/batch"), 429, "limits requests"),
        (("POST", "/api/repos/create"), 500, "a fault of its own (500)"),
        (("PUT", "/lfs/"), 403, "(403)"),
    ],
)
def test_what_the_hub_refuses_is_told_plainly(
    service: LiveApi, hub: Hub, place: tuple[str, str], status: int, words: str
) -> None:
    hub.fail[place] = status
    failed = publish_and_wait(service, train(service))
    assert failed["status"] == "failed" and failed["url"] is None
    assert failed["error"]["type"] == "/problems/publication-failed"
    assert words in failed["error"]["detail"], failed["error"]


def test_a_foreign_owner_a_wrong_token_and_a_hub_that_is_away(service: LiveApi, hub: Hub) -> None:
    adapter_id = import_ready(service)
    failed = publish_and_wait(service, adapter_id, repo_id="others/blip")
    assert (
        "may not write to others/blip (403)" in failed["error"]["detail"] and "namespace" in failed["error"]["detail"]
    )
    failed = publish_and_wait(service, adapter_id, token="hf_of_nobody")
    assert "does not know the token" in failed["error"]["detail"]
    failed = publish_and_wait(service, adapter_id, license="nonsense")
    assert "license" in failed["error"]["detail"]
    answer = publish(service, adapter_id)
    assert make_consumer(service, hub_url="http://127.0.0.1:9").run_next()
    failed = service.client.get(answer.headers["location"]).json()
    assert "could not be reached" in failed["error"]["detail"]


def test_an_existing_repository_is_not_overwritten_unasked(service: LiveApi, hub: Hub) -> None:
    adapter_id = import_ready(service)
    first = publish_and_wait(service, adapter_id)
    again = publish_and_wait(service, adapter_id)
    assert (again["status"], again["commit"]) == ("published", first["commit"]), "nothing has changed"
    other = train(service)
    refused = publish_and_wait(service, other)
    assert "has other files" in refused["error"]["detail"]
    assert (
        "is private, and you asked for a public one"
        in publish_and_wait(service, other, private=False)["error"]["detail"]
    )
    added = publish_and_wait(service, other, overwrite=True)
    assert added["status"] == "published" and len(hub.repositories["studio/blip"].commits) == 2


def test_a_repository_that_a_cut_off_attempt_left_empty_is_filled(service: LiveApi, hub: Hub) -> None:
    adapter_id = import_ready(service)
    hub.fail[("POST", "/commit/")] = 503
    hub.fail[("POST", "/preupload/")] = 403
    assert publish_and_wait(service, adapter_id)["status"] == "failed"
    assert list(hub.repositories["studio/blip"].files) == [".gitattributes"]
    hub.fail.clear()
    assert publish_and_wait(service, adapter_id)["status"] == "published"


def test_the_offline_switch_of_bases_does_not_stop_it(
    service: LiveApi, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a token of the worker's own environment take the place of the client's."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_worker")
    assert publish_and_wait(service, import_ready(service))["status"] == "published"
    assert {token for _, path, token in hub.requests if not path.startswith("/lfs/")} == {f"Bearer {TOKEN}"}


def test_the_operators_token_is_for_the_operators_tenant(start_api: Callable[..., LiveApi], hub: Hub) -> None:
    api = start_api(hub_url=hub.url, hub_token=SecretStr(TOKEN))
    done = publish_and_wait(api, import_ready(api), token=None, private=False)
    assert done["status"] == "published" and not hub.repositories["studio/blip"].private
    made = api.client.post("/tenants", json={"name": "guest"}).json()
    secret = api.client.post("/keys", json={"name": "k", "tenant": made["id"]}).json()["secret"]
    client = httpx.Client(base_url=api.url, headers={"Authorization": f"Bearer {secret}"})
    with client:
        guest = replace(api, client=client, tenant_id=made["id"])
        assert "/token" in refuse(publish(guest, import_ready(guest), token=None), 422, "invalid-request")["errors"]


def test_what_cannot_be_published_is_refused_at_once(
    service: LiveApi, start_api: Callable[..., LiveApi], hub: Hub
) -> None:
    adapter_id = import_ready(service)
    for wrong in ("blip", "a/b/c", "a/..b", "a/b--c", "a/b.git", "a b/c", "", "-a/b"):
        assert "/repo_id" in refuse(publish(service, adapter_id, repo_id=wrong), 422, "invalid-request")["errors"], (
            wrong
        )
    for token in ("hf_\nx", "", "x" * 300, "hf_ä"):
        answer = refuse(publish(service, adapter_id, token=token), 422, "invalid-request")
        assert "/token" in answer["errors"] and (not token or token not in json.dumps(answer))
    assert "/token" in refuse(publish(service, adapter_id, token=None), 422, "invalid-request")["errors"]
    refuse(publish(service, adapter_id, license="What I like"), 422, "invalid-request")
    refuse(publish(service, "ad_none"), 404, "not-found")
    assert publish(service, adapter_id).status_code == 202
    refuse(publish(service, adapter_id), 409, "wrong-state")
    refuse(service.client.get(f"/adapters/{adapter_id}/publications/pub_none"), 404, "not-found")
    off = start_api(hub_url=None)
    refuse(publish(off, adapter_id), 409, "wrong-state")
    assert hub.requests == []


def test_a_token_that_was_not_kept_and_a_worker_that_dies(service: LiveApi, hub: Hub) -> None:
    adapter_id = import_ready(service)
    answer = publish(service, adapter_id)
    Redis.from_url(service.settings.redis_url).delete(f"atelier:share:{answer.json()['id']}")
    assert make_consumer(service).run_next()
    failed = service.client.get(answer.headers["location"]).json()
    assert "Publish again" in failed["error"]["detail"]
    answer = publish(service, adapter_id)
    for _ in range(leases.MAX_DEATHS):
        with service.sessions.begin() as session:
            assert publications.claim_publication(session, lease_seconds=-1) is not None
            assert [row.id for row in publications.expire_publications(session)] == [answer.json()["id"]]
    failed = service.client.get(answer.headers["location"]).json()
    assert failed["status"] == "failed" and "its worker died" in failed["error"]["detail"]
    assert hub.requests == []


def test_a_hub_that_never_answers_is_given_up(hub: Hub) -> None:
    hub.delay_seconds = 60
    order = PublishOrder(
        endpoint=hub.url, token=TOKEN, repo_id="studio/blip", private=True, overwrite=False, files={}, weights=(),
        message="m", timeout_seconds=3,
    )  # fmt: skip
    answer = program.ask_program(
        PROGRAM, order, PublishAnswer, lambda: None, task="talks to the Hub", environment=ENVIRONMENT
    )
    assert answer.refusal == "The Hub took longer than 3 s. Publish it again."


def test_what_people_wrote_stays_text_on_the_card(service: LiveApi, hub: Hub) -> None:
    """Neither a field of the front matter nor a link, an image or code of the page comes of it."""
    adapter_id = train(service, trigger="zap: `x`", name="# Big <img src=x>")
    texts = {
        "description": "---\nlicense: mit\n---\n[click](https://evil.example) ![i](https://evil.example/i.png)",
        "tags": ["a: b", "- c", "widget: [x]"],
    }
    assert service.client.patch(f"/adapters/{adapter_id}", json=texts).status_code == 200
    assert publish_and_wait(service, adapter_id)["status"] == "published"
    front, body = read_card(hub)
    assert "license" not in front and "base_model" not in front
    assert front["instance_prompt"] == "zap: `x`" and front["tags"][-3:] == texts["tags"]
    assert "<img" not in body.replace("\\<img", "") and "](https" not in body.replace("\\](https", "")
    assert "Say `zap: 'x'` in the prompt." in body and body.lstrip().startswith("# \\# Big")


def test_a_merged_and_an_imported_adapter_say_how_they_were_made(service: LiveApi, hub: Hub) -> None:
    first, second = import_ready(service), import_ready(service)
    assert publish_and_wait(service, first)["status"] == "published"
    front, body = read_card(hub)
    assert "Imported into Atelier" in body and "widget" not in front and "<Gallery />" not in body
    merged = merge(service, (first, 1), (second, -0.5), name="Both").json()["id"]
    make(service, claim_merge(service, merged))
    assert publish_and_wait(service, merged, repo_id="studio/both")["status"] == "published"
    assert "Merged with Atelier from ink (1), ink (-0.5)" in read_card(hub, "studio/both")[1]


def test_logs_show_no_token_of_the_hub() -> None:
    assert TOKEN not in Redactor([]).redact(f"Authorization: {TOKEN}, and {TOKEN}.")
