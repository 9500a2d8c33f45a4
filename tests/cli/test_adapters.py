"""`atelier adapters` on a real API; the check of imports is played by the test."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Atelier
from tests.fixtures.scripted_job import MODEL


@pytest.mark.usefixtures("checker")
def test_an_adapter_is_imported_listed_shown_and_deleted(atelier: Atelier, files: Path) -> None:
    done = atelier("adapters", "import", "ink.safetensors", "--model", MODEL.id, "--tag", "a", "--json")
    assert done.exit_code == 0, done.output
    adapter_id = json.loads(done.stdout.splitlines()[-1])["id"]
    for listed in (
        atelier("adapters"),
        atelier("adapters", "list", "--tag", "a"),
        atelier("adapters", "show", adapter_id),
    ):
        assert listed.exit_code == 0 and adapter_id in listed.stdout and "lora, rank 4" in listed.stdout
    assert json.loads(atelier("adapters", "list", "--json").stdout.splitlines()[0])["id"] == adapter_id
    refused = atelier("adapters", "import", "bad.safetensors", "--model", MODEL.id)
    assert (refused.exit_code, "LoHa" in refused.stderr) == (1, True)
    assert atelier("adapters", "import", "none.safetensors", "--model", MODEL.id).exit_code == 2
    assert atelier("adapters", "delete", adapter_id).exit_code == 0
    assert atelier("adapters", "show", adapter_id).exit_code == 2
