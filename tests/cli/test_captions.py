"""`atelier caption`, `captioners` and `datasets fetch`, and the client's calls, on a real API; the test plays the
worker."""

import json
from pathlib import Path
from typing import Any

import pytest

from atelier_client import ApiError, AtelierClient, CaptionerUnusable, CaptioningEnded
from tests.cli.conftest import Atelier
from tests.cli.test_models_commands import home
from tests.fixtures.captions import captioner
from tests.fixtures.client import write
from tests.fixtures.pictures import png

__all__ = ["captioner", "home"]

pytestmark = pytest.mark.usefixtures("validator", "captioner")


@pytest.fixture
def toy(client: AtelierClient) -> str:
    client.register_captioner({"hub_id": "some/toy"})
    return client.wait_for_captioner("toy", timeout_seconds=60).id


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write(tmp_path / "cats", {**{f"{n}.png": png(n) for n in range(3)}, "1.txt": b"a known one"})


def lines_of(text: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, text.splitlines()) if line["event"] != "waiting"]


def test_a_folder_is_captioned(atelier: Atelier, client: AtelierClient, toy: str, pictures: Path) -> None:
    done = atelier("caption", pictures, "--prefix", "x, ", "--only-missing", "--name", "captioned", "--json")
    assert done.exit_code == 0, done.output
    lines = lines_of(done.stdout)
    [queued] = [line for line in lines if line["event"] == "captioning"]
    assert (queued["captioner"], queued["num_images"], queued["only_missing"]) == (toy, 2, True)
    assert (lines[-1]["event"], lines[-1]["name"], lines[-1]["parent"]) == ("dataset", "captioned", queued["dataset"])
    again = atelier("caption", queued["dataset"][:20], "--captioner", "to", "--prompt", "on red")
    assert again.exit_code == 0, again.output
    assert "has the captions" in again.stdout and "read them:" in again.stdout
    newest = next(client.list_captionings(dataset=queued["dataset"]))
    assert (newest.status, newest.num_done) == ("succeeded", 3)
    saved = atelier("datasets", "download", newest.revision, "--layout", "imagefolder", "--out", "there")
    assert saved.exit_code == 0, saved.output


def test_failures_and_faults_are_told(atelier: Atelier, client: AtelierClient, toy: str, pictures: Path) -> None:
    failed = atelier("caption", pictures, "--prompt", "fail")
    assert failed.exit_code == 1 and "the captioner was removed" in failed.stderr
    odd = atelier("caption", pictures, "--threshold", "0.5")
    assert (odd.exit_code, "only a tagger has a threshold" in odd.stderr) == (2, True), odd.stderr
    large = atelier("caption", pictures, "--threshold", "1.5")
    assert (large.exit_code, "--threshold" in large.stderr) == (2, True), large.stderr
    unknown = atelier("caption", pictures, "--captioner", "none")
    assert (unknown.exit_code, "There is no captioner none" in unknown.stderr) == (2, True), unknown.stderr
    client.register_captioner({"hub_id": "some/other"})
    client.wait_for_captioner("other", timeout_seconds=60)
    several = atelier("caption", pictures)
    assert (several.exit_code, "Choose one with --captioner" in several.stderr) == (2, True), several.stderr
    client.delete_captioner("other")


def test_without_a_captioner_it_is_said_how_to_get_one(atelier: Atelier, client: AtelierClient, pictures: Path) -> None:
    for one in client.list_captioners():
        client.delete_captioner(one.id)
    result = atelier("caption", pictures)
    assert (result.exit_code, "captioners add" in result.stderr) == (2, True), result.output
    assert "There are no captioners yet" in atelier("captioners").stdout


def test_the_client_waits_for_the_revision(client: AtelierClient, toy: str, pictures: Path) -> None:
    dataset = client.wait_for_dataset(client.upload_dataset(pictures).id)
    heard: list[int] = []
    made = client.caption_dataset(dataset.id, {"captioner": toy, "prompt": "here"})
    revision = client.wait_for_captioning(made.id, timeout_seconds=60, on_update=lambda one: heard.append(one.num_done))
    assert (revision.parent, revision.num_images, heard[-1]) == (dataset.id, 3, 3)
    client.delete_captioning(made.id)
    with pytest.raises(ApiError):
        client.get_captioning(made.id)
    failing = client.caption_dataset(dataset.id, {"captioner": toy, "prompt": "fail"})
    with pytest.raises(CaptioningEnded, match="the captioner was removed") as caught:
        client.wait_for_captioning(failing.id, timeout_seconds=60)
    assert caught.value.captioning.status == "failed"


def test_a_folder_of_this_machine_needs_the_models_directory(atelier: Atelier, tmp_path: Path) -> None:
    folder = write(tmp_path / "tagger", {"model.onnx": b"x"})
    added = atelier("captioners", "add", folder)
    assert (added.exit_code, "set ATELIER_HOME" in added.stderr) == (2, True), added.output


def test_a_folder_from_elsewhere_becomes_a_captioner(atelier: Atelier, home: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "My Tagger", {"model.onnx": b"x", "selected_tags.csv": b"y", "README.md": b"z"})
    added = atelier("captioners", "add", folder, "--description", "mine")
    assert added.exit_code == 0, added.output
    assert "Captioner my-tagger is ready: image-to-text, Toy." in added.stdout
    placed = home / "models" / "captioners" / "my-tagger"
    assert sorted(path.name for path in placed.iterdir()) == ["README.md", "model.onnx", "selected_tags.csv"]
    assert (placed / "README.md").read_text() != "z"
    shown = json.loads(atelier("captioners", "show", "my-t", "--json").stdout)
    assert (shown["id"], shown["description"], shown["size"]) == ("my-tagger", "mine", 7_000_000)
    assert "7.0 MB" in atelier("captioners", "show", "my-tagger").stdout
    assert "already" in atelier("captioners", "add", folder).stderr
    assert atelier("captioners", "add", "captioners/my-tagger").exit_code == 0
    assert atelier("captioners", "rm", "my-tagger").stdout == "Captioner my-tagger is removed.\n"
    assert placed.is_dir()


def test_a_rejected_one_says_why_and_leaves_nothing_behind(
    atelier: Atelier, client: AtelierClient, home: Path, tmp_path: Path
) -> None:
    folder = write(tmp_path / "bad", {"config.json": b"{}"})
    added = atelier("captioners", "add", folder)
    assert (added.exit_code, "Captioner bad was rejected. It is a teapot." in added.stderr) == (1, True), added.output
    assert not (home / "models" / "captioners" / "bad").exists() and folder.is_dir()
    assert "It is a teapot." in atelier("captioners").stdout
    with pytest.raises(CaptionerUnusable, match="teapot") as caught:
        client.wait_for_captioner("bad")
    assert caught.value.captioner.status == "rejected"


def test_a_set_is_fetched_from_addresses(atelier: Atelier, tmp_path: Path) -> None:
    """Nothing answers there: the report by address comes from the real worker's fetching."""
    (tmp_path / "urls.txt").write_text("# mine\nhttps://127.0.0.1.nip.invalid/a.png\n\nhttps://b.invalid/b.png\n")
    done = atelier("datasets", "fetch", "https://c.invalid/c.png", "--urls", "urls.txt", "--name", "afar", "--json")
    assert done.exit_code == 1, done.output
    lines = lines_of(done.stdout)
    assert lines[0]["status"] == "validating"
    assert "None of its 3 addresses gave a file." in lines[-1]["message"]
    assert atelier("datasets", "fetch").exit_code == 2
    local = atelier("datasets", "fetch", "http://localhost/a.png")
    assert (local.exit_code, "a name of this machine" in local.stderr) == (2, True), local.stderr
