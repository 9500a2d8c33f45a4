"""Generations are drawn by a real trainer, which stays warm between them and the jobs."""

import io
import os
import signal
import threading
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import select

from core.db import generations, jobs
from core.db.tables import DEFAULT_TENANT, Adapter, Generation
from core.domain.artifacts import Artifact
from core.domain.generation import GenerationPlan, GenerationSpec, StackedAdapter, resolve_generation
from core.domain.states import JobStatus
from tests.fixtures.house import House, house
from tests.fixtures.servers import wait_for
from worker.device.slot import open_slot
from worker.generations import generate_next

__all__ = ["house"]


def queue(house: House, *stack: StackedAdapter, **spec: Any) -> str:
    asked = GenerationSpec.model_validate({"model": "random", "prompts": ["zap left"], "num_steps": 2, **spec})
    plan: GenerationPlan = resolve_generation(asked, house.info, stack)
    with house.sessions.begin() as session:
        return generations.insert_generation(session, DEFAULT_TENANT, asked.model_dump(mode="json"), plan).id


def read(house: House, generation_id: str) -> Generation:
    with house.sessions() as session:
        return generations.get_generation(session, DEFAULT_TENANT, generation_id)


def train_adapter(house: House) -> StackedAdapter:
    job_id = house.submit(steps=2, samples={"prompts": []}, optimizer={"learning_rate": 0.05})
    assert house.run() and house.job(job_id).status == JobStatus.SUCCEEDED
    with house.sessions() as session:
        adapter = session.execute(select(Adapter).where(Adapter.job_id == job_id)).scalar_one()
    return StackedAdapter(
        id=adapter.id, name=adapter.name, weight=1.0, file=Artifact.model_validate(adapter.files["diffusers"])
    )


def test_a_jobs_adapter_draws_other_images_on_the_warm_trainer(house: House) -> None:
    adapter = train_adapter(house)
    pid = house.trainer_pid
    plain, changed = queue(house, num_images=2), queue(house, adapter, num_images=2)
    assert generate_next(house.settings) and generate_next(house.settings)
    assert not generate_next(house.settings), "nothing waits"
    rows = [read(house, generation_id) for generation_id in (plain, changed)]
    assert [row.status for row in rows] == ["succeeded", "succeeded"], [row.error for row in rows]
    assert [sorted(row.images) for row in rows] == [["0", "1"], ["0", "1"]]
    assert len({image["sha256"] for row in rows for image in row.images.values()}) == 4
    for row in rows:
        for image in row.images.values():
            assert house.storage.read(image["key"]).startswith(b"\x89PNG")
    again = train_adapter(house)
    assert house.trainer_pid == pid and again.file.sha256 == adapter.file.sha256, "a training's bytes do not change"


def test_a_missing_file_of_an_adapter_is_said(house: House) -> None:
    gone = StackedAdapter(id="ad_x", name="x", weight=1.0, file=Artifact(key="adapters/x/f", sha256="0" * 64, size=1))
    generation_id = queue(house, gone)
    assert generate_next(house.settings)
    row = read(house, generation_id)
    assert row.status == "failed" and row.error is not None and "gone from storage" in row.error["detail"]


def test_a_cancel_stops_the_drawing_and_the_trainer_lives(house: House) -> None:
    train_adapter(house)
    pid = house.trainer_pid
    generation_id = queue(house, num_images=16, num_steps=150)
    drawing = threading.Thread(target=generate_next, args=(house.settings,))
    drawing.start()
    wait_for(lambda: read(house, generation_id).lease_until is not None, 30)
    with house.sessions.begin() as session:
        generations.cancel_generation(session, DEFAULT_TENANT, generation_id)
    drawing.join(60)
    assert not drawing.is_alive()
    assert read(house, generation_id).status == "canceled"
    assert len(read(house, generation_id).images) < 16
    assert house.trainer_pid == pid
    assert queue(house) and generate_next(house.settings)


@pytest.mark.parametrize("kill", [signal.SIGKILL])
def test_a_generation_whose_trainer_dies_fails_and_the_next_is_drawn(house: House, kill: signal.Signals) -> None:
    open_slot(house.settings).warm_trainer()
    generation_id = queue(house, num_images=16, num_steps=150)
    drawing = threading.Thread(target=generate_next, args=(house.settings,))
    drawing.start()
    wait_for(lambda: read(house, generation_id).lease_until is not None, 30)
    os.kill(house.trainer_pid, kill)
    drawing.join(60)
    row = read(house, generation_id)
    assert row.status == "failed" and row.error is not None and "signal 9" in row.error["detail"]
    open_slot(house.settings).warm_trainer()
    later = queue(house)
    assert generate_next(house.settings) and read(house, later).status == "succeeded"


def test_one_adapter_twice_is_read_once(house: House) -> None:
    adapter = train_adapter(house)
    twice = queue(house, adapter, adapter.model_copy(update={"weight": -1.0}))
    plain = queue(house)
    while generate_next(house.settings):
        pass
    rows = [read(house, generation_id) for generation_id in (twice, plain)]
    assert [row.status for row in rows] == ["succeeded", "succeeded"], [row.error for row in rows]
    images = [house.storage.read(row.images["0"]["key"]) for row in rows]
    with Image.open(io.BytesIO(images[0])) as ours, Image.open(io.BytesIO(images[1])) as base:
        assert max(abs(a - b) for a, b in zip(ours.tobytes(), base.tobytes(), strict=True)) <= 2, "they cancel out"


def test_deleting_one_that_is_drawn_leaves_nothing(house: House) -> None:
    generation_id = queue(house, num_images=16, num_steps=20)
    drawing = threading.Thread(target=generate_next, args=(house.settings,))
    open_slot(house.settings).warm_trainer()
    drawing.start()
    wait_for(lambda: len(read(house, generation_id).images) > 0, 60)
    with house.sessions.begin() as session:
        generations.delete_generation(session, DEFAULT_TENANT, generation_id)
    drawing.join(60)
    assert not drawing.is_alive()
    assert not list(house.storage.list(f"generations/{generation_id}/"))


def test_a_silent_trainer_is_killed(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    open_slot(house.settings).warm_trainer()
    assert queue(house) and generate_next(house.settings), "warm"
    generation_id = queue(house, num_images=16, num_steps=150)
    settings = house.settings.model_copy(update={"stall_seconds": 2.0})
    monkeypatch.setattr("worker.generations.open_slot", lambda _: open_slot(house.settings))
    drawing = threading.Thread(target=generate_next, args=(settings,))
    drawing.start()
    wait_for(lambda: read(house, generation_id).lease_until is not None, 30)
    os.kill(house.trainer_pid, signal.SIGSTOP)
    drawing.join(60)
    row = read(house, generation_id)
    assert row.status == "failed" and row.error is not None and "signal 9" in row.error["detail"]


def test_they_are_drawn_between_the_steps_of_a_training(house: House) -> None:
    """While it goes on, and without a change of its bytes."""
    adapter = train_adapter(house)
    spec: dict[str, Any] = {"precision": "auto", "steps": 60, "samples": {"prompts": []}, "evaluation": "off"}
    alone = house.submit(**spec)
    assert house.run() and house.job(alone).status == JobStatus.SUCCEEDED
    job_id = house.submit(**{**spec, "steps": 600})
    with house.running():
        house.wait_for_step(job_id, 2)
        drawn = queue(house, adapter, num_images=5)
        wait_for(lambda: read(house, drawn).status == "succeeded", 120)
        assert house.job(job_id).status == JobStatus.RUNNING
        house.ask(jobs.cancel_job, job_id)
    same = house.submit(**spec)
    with house.running():
        house.wait_for_step(same, 2)
        later = queue(house, num_images=2)
    while generate_next(house.settings):  # if the training ended before it had its turn
        pass
    assert house.job(same).status == JobStatus.SUCCEEDED
    assert house.adapters(same) == house.adapters(alone)
    assert [read(house, one).status for one in (drawn, later)] == ["succeeded", "succeeded"]
    assert len(read(house, drawn).images) == 5


def begin_beside(house: House, job_id: str) -> str:
    """The id of a long generation that has begun while the job trains."""
    house.wait_for_step(job_id, 2)
    generation_id = queue(house, num_images=16, num_steps=150)
    wait_for(lambda: read(house, generation_id).lease_until is not None, 30)
    return generation_id


def test_one_that_a_training_leaves_behind_is_drawn_after_it(house: House) -> None:
    """Uncharged: the end of the job is no fault of the generation's."""
    job_id = house.submit(precision="auto", steps=4000, samples={"prompts": []}, evaluation="off")
    with house.running():
        left = begin_beside(house, job_id)
        house.ask(jobs.cancel_job, job_id)
    assert house.job(job_id).status == JobStatus.CANCELED
    row = read(house, left)
    assert (row.status, row.attempt, row.lease_until) == ("queued", 0, None)
    with house.sessions.begin() as session:
        generations.cancel_generation(session, DEFAULT_TENANT, left)
    assert queue(house) and generate_next(house.settings), "the trainer is free"


def test_a_killed_trainer_gives_its_generation_back(house: House) -> None:
    job_id = house.submit(precision="auto", steps=4000, samples={"prompts": []}, evaluation="off")
    with house.running():
        left = begin_beside(house, job_id)
        os.kill(house.trainer_pid, signal.SIGKILL)
    row = read(house, left)
    assert (row.status, row.attempt, row.lease_until) == ("queued", 0, None)
    with house.sessions.begin() as session:
        generations.cancel_generation(session, DEFAULT_TENANT, left)
        jobs.cancel_job(session, DEFAULT_TENANT, job_id)
