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


@pytest.mark.usefixtures("checker")
def test_adapters_are_merged_resized_and_compared(atelier: Atelier, files: Path) -> None:
    ids = []
    for _ in range(2):
        done = atelier("adapters", "import", "ink.safetensors", "--model", MODEL.id, "--json")
        ids.append(json.loads(done.stdout.splitlines()[-1])["id"])
    merged = atelier("adapters", "merge", ids[0], f"{ids[1]}:-0.5", "--method", "svd", "--rank", 8, "--name", "Both")
    assert merged.exit_code == 0 and "Both, lora of rank 8, with an error of 2.50%." in merged.stdout, merged.output
    made = json.loads(atelier("adapters", "list", "--json").stdout.splitlines()[0])["id"]
    shown = atelier("adapters", "show", made).stdout
    assert f"{ids[0]} (ink) × 1, {ids[1]} (ink) × -0.5; svd of rank 8, error 2.50%" in " ".join(shown.split())
    resized = atelier("adapters", "resize", ids[0], "--rank", 2, "--json")
    assert resized.exit_code == 0, resized.output
    smaller = json.loads(resized.stdout.splitlines()[-1])
    assert smaller["error"] == 0.025
    checked = atelier("adapters", "check", *ids)
    assert checked.exit_code == 0 and "1.000  reinforce" in checked.stdout and "All fit." in checked.stdout
    assert json.loads(atelier("adapters", "check", ids[0], "--json").stdout)["result"]["fits"] is True
    for wrong in ([f"{ids[0]}:much"], [ids[0], ids[0]], [ids[0], "--method", "svd"], [f"{ids[0]}:0"]):
        assert atelier("adapters", "merge", *wrong).exit_code == 2, wrong
    for one in (*ids, made, smaller["id"]):
        assert atelier("adapters", "delete", one).exit_code == 0
