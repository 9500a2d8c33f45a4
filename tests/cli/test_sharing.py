"""`atelier publish`, `atelier share` and `atelier adapters search|edit` on a real API."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from atelier_client import AtelierClient
from core.settings import Settings
from tests.cli.conftest import Atelier
from tests.fixtures.client import repeating
from tests.fixtures.hub import TOKEN, Hub
from tests.fixtures.pictures import png
from tests.fixtures.publishing import hub
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ADAPTER, MODEL
from worker.covers import read_next_cover

__all__ = ["hub"]


def read_lines(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


@pytest.fixture
def adapter(atelier: Atelier, files: Path, checker: None) -> Iterator[str]:
    done = atelier("adapters", "import", "ink.safetensors", "--model", MODEL.id, "--tag", "ink", "--json")
    assert done.exit_code == 0, done.output
    adapter_id = read_lines(done.stdout)[-1]["id"]
    yield adapter_id
    atelier("adapters", "delete", adapter_id)


def test_an_adapter_is_published_with_the_token_of_the_environment(
    atelier: Atelier, adapter: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    done = atelier("publish", adapter, "studio/ink", "--license", "openrail++", "--json")
    assert done.exit_code == 0, done.output
    last = read_lines(done.stdout)[-1]
    assert (last["status"], last["url"]) == ("published", f"{hub.url}/studio/ink")
    repository = hub.repositories["studio/ink"]
    assert repository.private and repository.files["ink.safetensors"] == ADAPTER
    assert b"license: openrail++" in repository.files["README.md"]
    shown = atelier("publish", adapter, "studio/shown", "--public", "--base-model", "a/base")
    assert shown.exit_code == 0 and f"Published: {hub.url}/studio/shown" in shown.stdout
    assert not hub.repositories["studio/shown"].private
    assert b"base_model: a/base" in hub.repositories["studio/shown"].files["README.md"]
    failed = atelier("publish", adapter, "others/ink")
    assert (failed.exit_code, "may not write to others/ink" in failed.stderr) == (1, True), failed.output
    assert TOKEN not in done.output + shown.output + failed.output


def test_what_cannot_be_published_is_spelled_as_typed(
    atelier: Atelier, adapter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    for arguments, words in (
        (("studio/ink",), "HF_TOKEN"),
        (("ink",), "OWNER/NAME"),
        (("studio/ink", "--license", "Mine"), "--license"),
    ):
        refused = atelier("publish", adapter, *arguments)
        assert (refused.exit_code, words in refused.stderr) == (2, True), refused.output


def test_a_link_is_made_listed_and_revoked(atelier: Atelier, adapter: str) -> None:
    made = atelier("share", adapter, "--for", "2h", "--json")
    assert made.exit_code == 0, made.output
    [link] = read_lines(made.stdout)
    assert httpx.get(link["url"]).status_code == 200
    assert httpx.get(f"{link['url']}/download").content == ADAPTER
    text = atelier("share", adapter)
    assert text.exit_code == 0 and "/share/" in text.stdout and "It works until" in text.stdout
    rows = read_lines(atelier("share", adapter, "--list", "--json").stdout)
    assert [(row["id"], row["num_views"], row["num_downloads"]) for row in rows][1] == (link["id"], 1, 1)
    assert link["id"] in atelier("share", adapter, "--list").stdout and "url" not in rows[0]
    for wide in ("", "lnk_", link["id"][:5]):
        assert atelier("share", adapter, "--revoke", wide).exit_code == 2, "every one, or both, begin so"
    assert atelier("share", adapter, "--revoke", link["id"]).exit_code == 0
    assert httpx.get(link["url"]).status_code == 404
    assert atelier("share", adapter, "--revoke", link["id"]).exit_code == 2
    for wrong in (("--for", "soon"), ("--for", "0d"), ("--for", "400d"), ("--for", "1h", "--list")):
        assert atelier("share", adapter, *wrong).exit_code == 2, wrong


@pytest.fixture
def reader(running_api: RunningApi) -> Iterator[None]:
    """A worker that reads covers."""
    settings = Settings(
        database_url=running_api.database_url, redis_url=running_api.env["REDIS_URL"], home=running_api.log.parent
    )
    with repeating(lambda: read_next_cover(settings)):
        yield


@pytest.mark.usefixtures("reader")
def test_a_file_becomes_the_cover(atelier: Atelier, adapter: str, tmp_path: Path, client: AtelierClient) -> None:
    (tmp_path / "cover.png").write_bytes(png(3))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    edited = atelier("adapters", "edit", adapter, "--cover", "cover.png", "--json")
    assert edited.exit_code == 0, edited.output
    cover = read_lines(edited.stdout)[-1]["cover"]
    assert client.download_cover(adapter, tmp_path / "out.png") == cover["sha256"]
    assert Image.open(tmp_path / "out.png").size == Image.open(tmp_path / "cover.png").size
    refused = atelier("adapters", "edit", adapter, "--cover", "bad.png")
    assert refused.exit_code == 1 and refused.stderr, refused.output
    assert client.get_adapter(adapter).cover == cover


def test_adapters_are_searched_and_edited(atelier: Atelier, adapter: str, files: Path) -> None:
    done = atelier("adapters", "import", "ink.safetensors", "--model", MODEL.id, "--name", "Second", "--json")
    second = read_lines(done.stdout)[-1]["id"]
    edited = atelier(
        "adapters", "edit", adapter, "--name", "Red fox", "--notes", "try 0.7", "--license", "cc-by-4.0", "--tag", "fox"
    )
    assert edited.exit_code == 0, edited.output
    shown = " ".join(edited.stdout.split())
    for words in ("name Red fox", "notes try 0.7", "licence cc-by-4.0", "tags fox"):
        assert words in shown, words

    def search(*arguments: str) -> list[str]:
        found = atelier("adapters", "search", *arguments, "--json")
        assert found.exit_code == 0, found.output
        return [row["id"] for row in read_lines(found.stdout)]

    assert search("fox", "red") == search("--tag", "fox") == search("0.7") == [adapter]
    assert search("--like", adapter) == [second] and search("--like", adapter, "--tag", "fox") == []
    assert search("--trigger", "ink", "--model", MODEL.id) == [second, adapter]
    assert "Red fox" in atelier("adapters", "search", "fox").stdout
    assert read_lines(atelier("adapters", "edit", adapter, "--license", "", "--json").stdout)[0]["license"] is None
    for wrong in (
        ("search",), ("search", "--like", "ad_01j9z3k8m4x7v2q5w6e8r9t0yc"), ("edit", adapter),
        ("edit", adapter, "--cover", "10"), ("edit", adapter, "--cover", "ten"), ("edit", adapter, "--cover", "1:x"),
        ("edit", adapter, "--cover", "gen_01j9z3k8m4x7v2q5w6e8r9t0yc:0"), ("edit", adapter, "--license", "Mine"),
    ):  # fmt: skip
        assert atelier("adapters", *wrong).exit_code == 2, wrong
    atelier("adapters", "delete", second)
