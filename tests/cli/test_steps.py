"""`atelier steps`, `promote`, `sample`, `metrics`, `report` and the client on a real API; the test is the worker."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atelier_client import AtelierClient, PromotionFailed, SamplesNotDrawn
from core.db import promotions
from core.domain.proof import LoadProof
from tests.cli.conftest import Atelier
from tests.fixtures.client import repeating
from tests.fixtures.drawing import drawer
from tests.fixtures.pictures import png
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ADAPTER, ScriptedJob, draw_png, step_adapter

__all__ = ["drawer"]


@pytest.fixture
def promoter(running_api: RunningApi) -> Iterator[None]:
    """Promotes every step but 80."""

    def promote_next() -> None:
        with running_api.sessions() as session, session.begin():
            claim = promotions.claim_promotion(session, lease_seconds=60)
            if claim is None:
                return
            if claim.step == 80:
                promotions.fail_promotion(session, claim, "A file of step 80 is gone from storage.")
                return
            proofs = {name: LoadProof(format=name, family="sd1", tools=()) for name in claim.files}
            promotions.commit_promotion(session, claim, proofs)

    with repeating(promote_next):
        yield


@pytest.fixture
def job(running_api: RunningApi) -> ScriptedJob:
    """At step 90 of 100; the adapters of steps 40 and 80 are kept."""
    made = ScriptedJob(running_api)
    made.start()
    made.train_to(90)
    made.validate(40, 0.25)
    for step in (40, 80):
        made.sample(step)
        made.keep_adapter(step)
    return made


def lines(output: str) -> list[dict[str, Any]]:
    return [row for line in output.splitlines() if (row := json.loads(line)).get("event") != "waiting"]


def test_steps_are_listed_and_downloaded(atelier: Atelier, job: ScriptedJob) -> None:
    listed = atelier("steps", job.id, "--json")
    assert listed.exit_code == 0, listed.output
    assert [(row["step"], row["validation_loss"], row["is_promoted"]) for row in lines(listed.stdout)] == [
        (40, 0.25, False),
        (80, None, False),
    ]
    table = atelier("steps", job.id[:20])
    assert "HELD OUT" in table.stdout and "0.2500" in table.stdout
    for name in ("kohya", "diffusers"):
        done = atelier("download", job.id, "--step", 40, "--format", name, "--json")
        assert done.exit_code == 0, done.output
        [saved] = lines(done.stdout)
        assert Path(saved["path"]).read_bytes() == step_adapter(40, name)
    missing = atelier("download", job.id, "--step", 41)
    assert missing.exit_code == 2 and "no adapter of step 41" in missing.stderr


@pytest.mark.usefixtures("promoter")
def test_a_step_is_promoted(atelier: Atelier, client: AtelierClient, job: ScriptedJob, tmp_path: Path) -> None:
    early = atelier("promote", job.id, 40)
    assert (early.exit_code, "when it has succeeded" in early.stderr) == (1, True), early.output
    job.train_to(100, first=91)
    job.succeed()
    failed = atelier("promote", job.id, 80)
    assert (failed.exit_code, "gone from storage" in failed.stderr) == (1, True), failed.output
    with pytest.raises(PromotionFailed, match="gone from storage"):
        client.promote_step(job.id, 80, timeout_seconds=60)
    done = atelier("promote", job.id, 40, "--json")
    assert done.exit_code == 0, done.output
    assert [(row["event"], row["step"]) for row in lines(done.stdout)] == [("promoted", 40)]
    client.download_adapter(job.id, tmp_path / "now.safetensors")
    assert (tmp_path / "now.safetensors").read_bytes() == step_adapter(40, "kohya")
    assert [step.step for step in client.list_steps(job.id) if step.is_promoted] == [40]
    client.promote_step(job.id, 100, timeout_seconds=60)
    client.download_adapter(job.id, tmp_path / "now.safetensors")
    assert (tmp_path / "now.safetensors").read_bytes() == ADAPTER


def test_samples_are_requested_and_saved(atelier: Atelier, client: AtelierClient, job: ScriptedJob) -> None:
    with repeating(lambda: job.draw_requested(90)):
        done = atelier("sample", job.id, "a {trigger} on red", "a {trigger} on blue", "--seed", 7, "--json")
    assert done.exit_code == 0, done.output
    saved = lines(done.stdout)
    assert [(row["step"], row["prompt"], row["seed"]) for row in saved] == [
        (90, "a blip on red", 7),
        (90, "a blip on blue", 8),
    ]
    assert [Path(row["path"]).read_bytes() for row in saved] == [draw_png(0), draw_png(1)]
    [request] = client.list_sample_requests(job.id)
    assert (request.status, len(request.images)) == ("drawn", 2)
    late = client.request_samples(job.id, ["a {trigger}"])
    job.succeed()
    with pytest.raises(SamplesNotDrawn, match="ended before"):
        client.wait_for_samples(job.id, late.id, timeout_seconds=60)
    ended = atelier("sample", job.id, "a blip")
    assert (ended.exit_code, "while it is running" in ended.stderr) == (1, True), ended.output


def test_metrics_and_the_report_are_saved(atelier: Atelier, job: ScriptedJob, tmp_path: Path) -> None:
    table = atelier("metrics", job.id, "--json")
    assert table.exit_code == 0, table.output
    rows = Path(lines(table.stdout)[0]["path"]).read_text().splitlines()
    assert len(rows) == 91 and rows[40].startswith("40,1,") and ",0.25," in rows[40]
    events = atelier("metrics", job.id, "--tensorboard", "--out", "runs", "--json")
    assert events.exit_code == 0, events.output
    [folder] = (tmp_path / "runs").iterdir()
    [file] = folder.iterdir()
    assert file.name.startswith("events.out.tfevents.") and file.name.endswith(job.id)
    assert file.read_bytes().count(b"loss/validation") == 1
    page = atelier("report", job.id, "--json")
    assert page.exit_code == 0, page.output
    html = Path(lines(page.stdout)[0]["path"]).read_text()
    assert job.id in html and html.count("data:image/png;base64,") == 2


@pytest.mark.usefixtures("drawer")
def test_a_generation_draws_with_a_step(atelier: Atelier, client: AtelierClient, job: ScriptedJob) -> None:
    done = atelier("generate", "a blip", "--adapter", f"{job.id[:22]}@40:0.5", "--json")
    assert done.exit_code == 0, done.output
    assert Path(lines(done.stdout)[-1]["path"]).read_bytes() == png(0)
    newest = next(client.list_generations())
    [used] = newest.model_dump()["adapters"]
    assert (used["job"], used["step"], used["weight"]) == (job.id, 40, 0.5)
    wrong = atelier("generate", "a blip", "--adapter", f"{job.id}@last")
    assert wrong.exit_code == 2 and "is not a step" in wrong.stderr
