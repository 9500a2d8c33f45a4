"""Links: who has one sees one page and its files, is counted, and may do nothing else, until it ends."""

import hashlib
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy import func, update

from core.db.tables import Adapter, AdapterLink
from core.domain.links import MAX_LINKS, make_link_secret
from core.logs import Redactor
from tests.app.conftest import LiveApi, with_scopes
from tests.app.test_adapters import import_ready, send
from tests.app.test_jobs import refuse
from tests.app.test_publishing import train


def share(api: LiveApi, adapter_id: str, **fields: Any) -> dict[str, Any]:
    answer = api.client.post(f"/adapters/{adapter_id}/links", json=fields)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def open_url(api: LiveApi, url: str, method: str = "GET", **headers: str) -> httpx.Response:
    """As a stranger: no key."""
    return httpx.request(method, url, headers=headers, timeout=30)


def read_link(api: LiveApi, link: dict[str, Any]) -> dict[str, Any]:
    rows = api.client.get(f"/adapters/{link['adapter']}/links").json()["data"]
    return next(row for row in rows if row["id"] == link["id"])


def expire(api: LiveApi, link: dict[str, Any]) -> None:
    with api.sessions.begin() as session:
        past = func.clock_timestamp() - timedelta(seconds=1)
        session.execute(update(AdapterLink).where(AdapterLink.id == link["id"]).values(expires_at=past))


def test_a_link_opens_a_page_and_its_files_without_a_key(api: LiveApi) -> None:
    adapter_id = train(api, name="My <b>toy</b>")
    changes = {"cover": {"step": 10}, "license": "openrail++", "description": "Red & round", "notes": "my secret"}
    assert api.client.patch(f"/adapters/{adapter_id}", json=changes).status_code == 200
    adapter = api.client.get(f"/adapters/{adapter_id}").json()
    link = share(api, adapter_id, expires_in=3600)
    assert link["url"].startswith(f"{api.url}/share/") and not link["expired"]
    page = open_url(api, link["url"])
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "My &lt;b&gt;toy&lt;/b&gt;" in page.text and "<b>" not in page.text
    for shown in ("toy", adapter["model"], "openrail++", "Red &amp; round", "load_lora_weights", "models/loras"):
        assert shown in page.text, shown
    assert "my secret" not in page.text and adapter_id not in page.text and api.tenant_id not in page.text
    for kind, file in adapter["files"].items():
        assert f"{file['size']:,} bytes" in page.text and file["sha256"] in page.text
        download = open_url(api, f"{link['url']}/download?format={kind}")
        assert hashlib.sha256(download.content).hexdigest() == file["sha256"]
        assert download.headers["content-disposition"].startswith("attachment")
    cover = open_url(api, f"{link['url']}/cover.png")
    assert cover.content == api.client.get(adapter["cover"]["url"]).content and cover.content[:4] == b"\x89PNG"
    for answer in (page, cover, download):
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-robots-tag"].startswith("noindex")
        assert "no-store" in answer.headers["cache-control"]
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self';" in policy and "unsafe" not in policy
    assert re.findall(r"<script[^>]*>", page.text) == ['<script type="module" src="/share/static/share.js">']
    assert " style=" not in page.text and " onclick=" not in page.text
    parts = re.findall(r'(?:href|src)="(/[^"]+)"', page.text)
    assert all(open_url(api, f"{api.url}{found}").status_code == 200 for found in parts) and len(parts) == 6
    assert open_url(api, f"{api.url}/share/static/adapter.html").status_code == 404


def test_the_page_names_the_tools_that_read_the_whole_file(api: LiveApi) -> None:
    adapter_id = train(api, name="toy")
    read = {"tool": "a1111", "required": True, "loads": True, "num_keys": 4, "num_resolved": 4}
    others = [
        {**read, "tool": "comfyui", "opens_base": False},
        {**read, "tool": "sd-scripts", "loads": False, "num_resolved": 3},
    ]
    with api.sessions.begin() as session:
        proof = {"format": "kohya", "family": "sd1", "tools": [read, *others]}
        session.get_one(Adapter, adapter_id).proofs = {"kohya": proof}
    page = open_url(api, share(api, adapter_id)["url"]).text
    assert "<strong>For A1111/Forge</strong>" in page and "models/Lora" in page
    assert "ComfyUI" not in page and "sd-scripts" not in page and "gen_img.py" not in page


def test_uses_are_counted_and_heads_and_parts_are_not(api: LiveApi) -> None:
    link = share(api, import_ready(api))
    assert (link["num_views"], link["num_downloads"], link["last_used_at"]) == (0, 0, None)
    for _ in range(2):
        open_url(api, link["url"])
    open_url(api, link["url"], "HEAD")
    open_url(api, f"{link['url']}/download")
    assert open_url(api, f"{link['url']}/download", Range="bytes=5-").status_code == 206
    assert open_url(api, f"{link['url']}/download", "HEAD").status_code == 200
    now = read_link(api, link)
    assert (now["num_views"], now["num_downloads"]) == (2, 1) and now["last_used_at"] is not None
    assert "url" not in now


def test_revoked_expired_and_unknown_links_are_the_same_404(api: LiveApi) -> None:
    adapter_id = import_ready(api)
    revoked, expired, kept = (share(api, adapter_id) for _ in range(3))
    assert api.client.delete(revoked["urls"]["self"]).status_code == 204
    refuse(api.client.delete(revoked["urls"]["self"]), 404, "not-found")
    expire(api, expired)
    assert read_link(api, expired)["expired"] is True
    urls = [revoked["url"], expired["url"], f"{api.url}/share/{make_link_secret()}", f"{api.url}/share/x"]
    for part in ("", "/download", "/cover.png"):
        answers = [open_url(api, url + part) for url in urls]
        assert {answer.status_code for answer in answers} == {404}
        bodies = {re.sub(r"/share/[\w-]+", "", answer.text) for answer in answers}
        assert len(bodies) == 1, part
    assert open_url(api, kept["url"]).status_code == 200
    api.client.delete(f"/adapters/{adapter_id}")
    assert open_url(api, kept["url"]).status_code == 404


def test_a_link_gives_no_other_rights(api: LiveApi, other: LiveApi) -> None:
    adapter_id, second = import_ready(api), import_ready(api)
    link, theirs = share(api, adapter_id), share(api, second)
    secret = link["url"].rpartition("/")[2]
    for path in ("/adapters", f"/adapters/{adapter_id}", f"/adapters/{adapter_id}/download", "/jobs"):
        assert httpx.get(f"{api.url}{path}", headers={"Authorization": f"Bearer {secret}"}).status_code == 401
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert open_url(api, link["url"], method).status_code == 405
    for path in (f"/share/{secret}/adapters", f"/share/{secret}/../../adapters", f"/share/{secret}/links"):
        assert open_url(api, f"{api.url}{path}").status_code in {401, 404}
    # neither an owner of another tenant nor a path of another adapter reaches it
    refuse(other.client.delete(link["urls"]["self"]), 404, "not-found")
    refuse(other.client.get(f"/adapters/{adapter_id}/links"), 404, "not-found")
    refuse(api.client.delete(f"/adapters/{second}/links/{link['id']}"), 404, "not-found")
    assert [row["id"] for row in api.client.get(f"/adapters/{second}/links").json()["data"]] == [theirs["id"]]
    with with_scopes(api, "read") as reader:
        refuse(reader.client.post(f"/adapters/{adapter_id}/links", json={}), 403, "forbidden")


def test_secrets_are_stored_as_hashes_and_kept_out_of_logs(api: LiveApi) -> None:
    link = share(api, import_ready(api))
    secret = link["url"].rpartition("/")[2]
    with api.sessions() as session:
        rows = session.execute(sa.text("SELECT t::text FROM adapter_links t")).scalars().all()
        rows += session.execute(sa.text("SELECT t::text FROM audit_log t")).scalars().all()
    assert hashlib.sha256(secret.encode()).hexdigest() in "".join(rows) and secret not in "".join(rows)
    text = Redactor([]).redact(f'GET "{link["url"]}/download" {link["url"]}')
    assert secret not in text and "/share/[redacted]/download" in text


def test_what_cannot_be_shared_is_refused(api: LiveApi) -> None:
    adapter_id = import_ready(api)
    for seconds in (0, 59, 366 * 86_400, 1.5, True, "3600", None):
        answer = api.client.post(f"/adapters/{adapter_id}/links", json={"expires_in": seconds})
        assert "/expires_in" in refuse(answer, 422, "invalid-request")["errors"], seconds
    checking = send(api).json()["id"]
    refuse(api.client.post(f"/adapters/{checking}/links", json={}), 409, "wrong-state")
    refuse(api.client.post("/adapters/ad_none/links", json={}), 404, "not-found")
    for _ in range(MAX_LINKS):
        share(api, adapter_id)
    refuse(api.client.post(f"/adapters/{adapter_id}/links", json={}), 429, "quota-exceeded")


@pytest.mark.parametrize("known", [True, False])
def test_strangers_are_slowed_down(start_api: Callable[..., LiveApi], known: bool) -> None:
    api = start_api(failures_per_minute=3, rate_burst=6, rate_per_minute=1)
    link = share(api, import_ready(api))
    url = link["url"] if known else f"{api.url}/share/{make_link_secret()}"
    answers = [open_url(api, url) for _ in range(8)]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200] * 6 + [429] * 2 if known else [404] * 3 + [429] * 5
    assert int(answers[-1].headers["retry-after"]) >= 1
