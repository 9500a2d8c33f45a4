"""Canaries in everything that is secret or somebody's own, through the whole service and its failures: none is found in
a log, in another tenant's answers or in the answer to a stranger, and no row holds a key or token."""

import io
import json
import secrets
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sqlalchemy.engine import make_url

from core.domain.keys import make_api_key
from core.domain.webhooks import make_secret
from tests.acceptance.conftest import Atelier

LISTS = ("jobs", "datasets", "adapters", "models", "keys", "audit", "usage", "workers", "webhooks/secret")


@dataclass
class Canaries:
    """``hashed``: what nobody may read again, the database included. ``own``: what its tenant alone may see."""

    hashed: dict[str, str] = field(default_factory=dict)
    own: dict[str, str] = field(default_factory=dict)

    def plant(self, name: str) -> str:
        self.own[name] = f"canary-{secrets.token_hex(8)}"
        return self.own[name]

    @property
    def all(self) -> dict[str, str]:
        return self.hashed | self.own


def draw_noisy(seed: int, comment: str) -> bytes:
    info = PngInfo()
    info.add_text("Comment", comment)
    output = io.BytesIO()
    Image.effect_noise((64, 64), 40 + seed).convert("RGB").save(output, "PNG", pnginfo=info)
    return output.getvalue()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def plant_keys(http: httpx.Client, canaries: Canaries) -> None:
    made = {name: http.post("/keys", json={"name": canaries.plant(f"name of {name}")}).json() for name in "abc"}
    http.delete(f"/keys/{made['b']['id']}").raise_for_status()
    rotated = http.post(f"/keys/{made['c']['id']}/rotate", json={"overlap_seconds": 0}).json()
    canaries.hashed |= {f"key {name}": row["secret"] for name, row in made.items()} | {"new key": rotated["secret"]}


def plant_sessions(url: str, key: str, canaries: Canaries) -> None:
    with httpx.Client(base_url=url, timeout=60) as browser:
        canaries.hashed["login token"] = browser.post("/ui/tokens", headers=bearer(key)).json()["token"]
        browser.get("/ui/login", params={"token": canaries.hashed["login token"]})
        canaries.hashed["unknown token"] = secrets.token_urlsafe(32)
        browser.get("/ui/login", params={"token": canaries.hashed["unknown token"]})
        browser.post("/ui/login", data={"api_key": key}, headers={"Sec-Fetch-Site": "same-origin"})
        assert browser.cookies
        canaries.hashed |= {f"cookie {name}": value for name, value in browser.cookies.items()}
        browser.get("/ui")


def guess_keys(url: str, canaries: Canaries) -> list[httpx.Response]:
    """Keys that are none, in each place where somebody could put one."""
    canaries.hashed |= {"unknown key": make_api_key(), "no key": f"atl_{secrets.token_hex(20)}"}
    canaries.hashed |= {"basic": secrets.token_hex(16), "in the query": make_api_key(), "in a cookie": make_api_key()}
    with httpx.Client(base_url=url, timeout=60) as stranger:
        return [
            stranger.get("/jobs", headers=bearer(canaries.hashed["unknown key"])),
            stranger.get("/jobs", headers=bearer(canaries.hashed["no key"])),
            stranger.get("/jobs", auth=("me", canaries.hashed["basic"])),
            stranger.get("/jobs", params={"api_key": canaries.hashed["in the query"]}),
            stranger.get("/jobs", headers={"Cookie": f"session={canaries.hashed['in a cookie']}"}),
        ]


def plant_dataset(http: httpx.Client, canaries: Canaries) -> str:
    files = [("files", (f"{i}.png", draw_noisy(i, canaries.plant(f"metadata {i}")))) for i in range(5)]
    files += [("files", ("0.txt", canaries.plant("caption").encode()))]
    line = json.dumps({"file_name": "1.png", "text": canaries.plant("caption in metadata")})
    files += [("files", ("metadata.jsonl", line.encode())), ("files", ("9.png", canaries.plant("no image").encode()))]
    answer = http.post("/datasets", files=files, data={"name": canaries.plant("dataset")})
    return str(answer.raise_for_status().json()["id"])


def plant_jobs(atelier: Atelier, dataset: str, canaries: Canaries) -> None:
    """One that ends well, and one whose numbers end: every part of the trainer's log is written."""
    secret = make_secret()
    canaries.own["webhook secret"] = secret
    address = f"https://atelier.invalid/{canaries.plant('webhook path')}"
    body = {
        "model": "tiny", "dataset": dataset, "steps": 2, "trigger": canaries.plant("trigger"),
        "name": canaries.plant("job"), "samples": {"prompts": [canaries.plant("prompt")]},
        "webhook": {"url": address, "secret": secret}, "evaluation": "off",
        "loss": {"prior_preservation": {"num_images": 2, "batch_size": 2}},
    }  # fmt: skip
    headers = {"Idempotency-Key": canaries.plant("idempotency key")}
    for more in ({}, {"optimizer": {"learning_rate": 1e4}, "steps": 8}):
        created = atelier.http.post("/jobs", json=body | more, headers=headers if not more else {})
        if created.status_code == 201:
            atelier.wait_for_job(created.json()["id"])


def break_things(http: httpx.Client, dataset: str, canaries: Canaries) -> None:
    """What is refused, by each reader of bodies."""
    bad = {"model": "tiny", "dataset": dataset, "trigger": canaries.plant("refused trigger"), "steps": -1}
    http.post("/jobs", json=bad)
    http.post("/jobs", content=f'{{"model": "{canaries.plant("broken JSON")}'.encode())
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr(f"../{canaries.plant('member')}.png", b"x")
    http.post("/datasets", files={"files": ("x.zip", archive.getvalue())})
    weights = json.dumps({"__metadata__": {"ss_tag": canaries.plant("weights")}}).encode()
    file = {"file": ("x.safetensors", len(weights).to_bytes(8, "little") + weights)}
    http.post("/adapters", data={"model": "tiny", "description": canaries.plant("description")}, files=file)


@pytest.fixture(scope="module")
def canaries(atelier: Atelier) -> Canaries:
    planted, http = Canaries(), atelier.http
    key = (atelier.home / "admin.key").read_text().strip()
    planted.hashed["operator's key"] = key
    credentials = json.loads((atelier.home / "embedded.json").read_text())
    planted.hashed |= {name: value for name, value in credentials.items() if name.endswith("password")}
    plant_keys(http, planted)
    plant_sessions(str(http.base_url), key, planted)
    planted.own["tenant's webhook secret"] = http.get("/webhooks/secret").json()["secret"]
    dataset = plant_dataset(http, planted)
    assert atelier.wait_for_dataset(dataset)["status"] == "ready"
    plant_jobs(atelier, dataset, planted)
    break_things(http, dataset, planted)
    return planted


def read_logs(home: Path) -> dict[str, str]:
    return {path.name: path.read_text(errors="replace") for path in (home / "log").rglob("*") if path.is_file()}


def find(canaries: dict[str, str], text: str) -> list[str]:
    return [name for name, value in canaries.items() if value in text]


def test_there_are_enough_of_them(canaries: Canaries) -> None:
    assert len(canaries.all) >= 30
    assert all(len(value) >= 16 for value in canaries.all.values())


def test_no_log_has_one(atelier: Atelier, canaries: Canaries) -> None:
    logs = read_logs(atelier.home)
    assert {"api.log", "cpu.log", "steward.log", "postgres.log", "trainer-0.log"} <= set(logs)
    assert sum(map(len, logs.values())) > 1000
    assert {name: found for name, text in logs.items() if (found := find(canaries.all, text))} == {}


def test_a_guessed_key_is_not_echoed(atelier: Atelier, canaries: Canaries) -> None:
    answers = guess_keys(str(atelier.http.base_url), canaries)
    assert [answer.status_code for answer in answers] == [401] * len(answers)
    for answer in answers:
        assert find(canaries.all, answer.text + str(answer.headers)) == []
    assert all(not find(canaries.all, text) for text in read_logs(atelier.home).values())


def test_another_tenants_answers_have_none(atelier: Atelier, canaries: Canaries) -> None:
    tenant = atelier.http.post("/tenants", json={"name": "others"}).raise_for_status().json()["id"]
    body = {"name": "theirs", "scopes": ["read", "jobs", "admin"], "tenant": tenant}
    key = atelier.http.post("/keys", json=body).raise_for_status().json()["secret"]
    with httpx.Client(base_url=atelier.http.base_url, headers=bearer(key), timeout=60) as other:
        answers = {path: other.get(f"/{path}").raise_for_status().text for path in LISTS}
    assert {path: found for path, text in answers.items() if (found := find(canaries.all, text))} == {}
    shown = "".join(atelier.http.get(f"/{path}", params={"limit": 100}).text for path in ("jobs", "datasets"))
    assert len(find(canaries.own, shown)) >= 3, "their owner does see them"


def test_no_row_has_a_key_or_a_token(atelier: Atelier, canaries: Canaries) -> None:
    pid = int((atelier.home / "run" / "steward.pid").read_text().split()[0])
    url = make_url(psutil.Process(pid).environ()["DATABASE_URL"]).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
        tables = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        rows = {
            name: "\n".join(str(row[0]) for row in connection.execute(f'SELECT t::text FROM "{name}" t'))
            for name in tables
            if name != "alembic_version"
        }
    assert len(find(canaries.own, rows["jobs"])) >= 3, "what must be there is found by this"
    assert {name: found for name, text in rows.items() if (found := find(canaries.hashed, text))} == {}
