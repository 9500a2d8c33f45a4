"""Lists as they are read: on 80 columns by a person, or line by line by another program."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.cells import cell_len

from atelier_client.models import Adapter, Dataset, Job, Key, Model, Progress, Tenant
from cli import tables
from core.domain.ids import new_id

NOW = datetime.now(UTC)
LONG = "a name of many words\nand of two lines, which nobody would want to have cut in the middle of a word"


def make_job(**fields: Any) -> Job:
    progress = Progress(step=100, num_steps=2400, eta_seconds=11_000)
    defaults = {"id": new_id("job"), "status": "running", "phase": "sampling", "model": "stable-diffusion-xl-base-1.0",
                "dataset": "ds_1", "created_at": NOW - timedelta(days=30, hours=1), "progress": progress,
                "spec": {"name": LONG}}  # fmt: skip
    return Job.model_validate({**defaults, **fields})


LISTS: dict[str, tuple[Any, list[Any]]] = {
    "jobs": (
        tables.print_jobs,
        [
            make_job(id="job_01m8n0j73vzza53v30crvc654q"),
            make_job(id="job_01m8mzz1c5k2pq9d7w3f0t8xya", spec={"name": "fox"}),
        ],
    ),
    "datasets": (
        tables.print_datasets,
        [
            Dataset(
                id=new_id("ds"), status="rejected", name=LONG, created_at=NOW, num_images=5000, waiting_reason=LONG
            ),
            Dataset(id=new_id("ds"), status="validating", created_at=NOW),
        ],
    ),
    "models": (
        tables.print_models,
        [Model(id="stable-diffusion-xl-base-1.0", family="sdxl", resolution=1024, status="rejected", description=LONG)],
    ),
    "adapters": (
        tables.print_adapters,
        [
            Adapter(
                id=new_id("ad"), status="ready", source="job", name=LONG, trigger=LONG, tags=("a", "b", LONG),
                model="stable-diffusion-xl-base-1.0", type="locon", rank=128, created_at=NOW,
            )
        ],
    ),
    "keys": (
        tables.print_keys,
        [
            Key(
                id=new_id("key"), name=LONG, prefix="atl_e8an", scopes=("read", "jobs", "admin"), created_at=NOW,
                expires_at=NOW + timedelta(days=300),
            )
        ],
    ),
    "tenants": (tables.print_tenants, [Tenant(id=new_id("ten"), name=LONG, created_at=NOW)]),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_on_a_terminal_of_80_columns_each_row_is_one_line(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_table, rows = LISTS[name]
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes it for a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(rows)
    lines = [strip_styles(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 1 + len(rows)
    assert max(map(cell_len, lines)) <= 80
    for row, line in zip(rows, lines[1:], strict=True):
        first = line.split()[0]
        assert row.id.startswith(first) and len(first) >= 8, "an id is never cut to where it would not be found"
    if name == "jobs":
        assert all(whole in lines[1] for whole in ("100/2400", "3:03:20", "sampling"))
        assert "30 d ago" in lines[1]


@pytest.mark.parametrize("name", LISTS)
def test_before_another_program_each_row_is_one_line_with_everything_in_it(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    print_table, rows = LISTS[name]
    print_table(rows)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(rows)
    assert all(row.id in line for row, line in zip(rows, lines[1:], strict=True))
    assert " ".join(LONG.split()) in lines[1]
    assert [line for line in lines if line.endswith(" ")] == []


def strip_styles(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)
