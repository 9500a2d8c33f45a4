"""`atelier train` sends nothing twice, and nothing that could not be learned from."""

import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from atelier_client import AtelierClient
from tests.cli.conftest import Atelier
from tests.fixtures.client import write
from tests.fixtures.pictures import png
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import MODEL, register_scripted_model

FILES = {"b/ö.png": png(1, 96, 96), "a.png": png(2, 96, 96), "a.txt": b"a fox"}


@pytest.mark.usefixtures("validator", "trainer")
def test_training_twice_on_a_folder_makes_one_dataset(atelier: Atelier, client: AtelierClient, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", FILES)
    first = atelier("train", folder, "--model", MODEL.id, "--trigger", "zap", "--steps", 20)
    again = atelier("train", folder, "--model", MODEL.id[:5], "--trigger", "zap", "--steps", 30, "--json")
    assert (first.exit_code, again.exit_code) == (0, 0), first.output + again.output
    events = {line["event"]: line for line in map(json.loads, again.stdout.splitlines())}
    assert events["dataset"]["reused"] is True
    assert "upload" not in events
    assert len(list(client.list_datasets())) == 1
    assert atelier("train", folder, "--model", MODEL.id, "--trigger", "zap", "--upload-again").exit_code == 0
    assert len(list(client.list_datasets())) == 2


@pytest.mark.usefixtures("validator", "trainer")
def test_a_set_with_a_broken_file_is_not_sent_again_either(
    atelier: Atelier, client: AtelierClient, tmp_path: Path
) -> None:
    folder = write(tmp_path / "set", {**FILES, "bad.png": png(7)[:200]})
    command = ("train", folder, "--model", MODEL.id, "--trigger", "zap", "--steps", 20)
    first, again = atelier(*command), atelier(*command)
    assert (first.exit_code, again.exit_code) == (0, 0), first.output + again.output
    assert len(list(client.list_datasets())) == 1
    for result in (first, again):
        assert "bad.png was left out" in result.stdout
    assert "sent before and not sent again" in again.stdout
    assert "--upload-again" in again.stdout and "--upload-again" not in first.stdout


def test_without_trigger_and_captions_nothing_is_sent(
    atelier: Atelier, client: AtelierClient, running_api: RunningApi, tmp_path: Path
) -> None:
    register_scripted_model(running_api)
    folder = write(tmp_path / "set", {"a.png": png(1, 96, 96), "a.txt": b""})
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(folder / "a.png", "a.png")
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as packed:
        packed.add(folder / "a.png", "a.png")
    for path in (folder, folder / "a.png", tmp_path / "set.zip", tmp_path / "set.tar.gz"):
        for trigger in ((), ("--trigger", " ")):
            result = atelier("train", path, "--model", MODEL.id, *trigger)
            assert result.exit_code == 2, result.output
            assert "there is no trigger and no caption" in result.stderr
    assert list(client.list_datasets()) == []
