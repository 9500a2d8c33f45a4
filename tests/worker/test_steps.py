"""Steps of real trainings: adapters are kept and promoted by the real programs, samples are drawn by a real trainer."""

import os
import signal
import threading
from typing import Any

import pytest

from core.db import jobs, promotions, sample_requests, step_adapters
from core.db.tables import DEFAULT_TENANT, Promotion, SampleRequest
from core.domain.states import JobStatus
from tests.fixtures.house import House, house
from tests.fixtures.servers import wait_for
from worker.consumer import Consumer
from worker.promotions import Promoting

__all__ = ["house"]

SPEC: dict[str, Any] = {
    "steps": 60,
    "batch_size": 2,
    "checkpoints": {"every": 10},
    "samples": {"prompts": ["zap left"], "every": 20, "num_steps": 2},
    "evaluation": "off",
}


@pytest.fixture
def promoter(house: House) -> Consumer[Any, Any]:
    return Consumer(Promoting, house.settings, house.sessions, house.storage, threading.Event())


def train(house: House, **spec: Any) -> str:
    job_id = house.submit(**{**SPEC, **spec})
    assert house.run()
    assert house.job(job_id).status == JobStatus.SUCCEEDED, house.history(job_id)
    return job_id


def list_steps(house: House, job_id: str) -> dict[int, dict[str, str]]:
    with house.sessions() as session:
        rows = step_adapters.list_steps(session, job_id)
    return {row.adapter.step: {name: file["sha256"] for name, file in row.adapter.files.items()} for row in rows}


def request(house: House, job_id: str, *prompts: str) -> str:
    with house.sessions.begin() as session:
        return sample_requests.insert_request(session, DEFAULT_TENANT, job_id, prompts, 3).id


def read_request(house: House, job_id: str, request_id: str) -> SampleRequest:
    with house.sessions() as session:
        return sample_requests.get_request(session, DEFAULT_TENANT, job_id, request_id)


def ask_for(house: House, job_id: str, step: int) -> str:
    with house.sessions.begin() as session:
        return promotions.insert_promotion(session, DEFAULT_TENANT, job_id, step).id


def read_promotion(house: House, job_id: str) -> Promotion:
    with house.sessions() as session:
        return promotions.get_promotion(session, DEFAULT_TENANT, job_id)


def test_another_step_is_promoted_with_its_proof(house: House, promoter: Consumer[Any, Any]) -> None:
    job_id = train(house)
    kept, before = list_steps(house, job_id), house.job(job_id).result
    assert list(kept) == [20, 40, 60] and house.adapters(job_id) == kept[60]
    ask_for(house, job_id, 20)
    assert promoter.run_next() and not promoter.run_next()
    assert (read_promotion(house, job_id).status, read_promotion(house, job_id).error) == ("done", None)
    assert house.adapters(job_id) == kept[20] != kept[60]
    result = house.job(job_id).result
    assert before is not None and result is not None
    assert result["proofs"] == before["proofs"]  # the same layers, tools and verdicts: only the numbers differ
    verdicts = {tool["tool"]: tool["verdict"] for tool in result["proofs"]["diffusers"]["tools"]}
    assert verdicts["diffusers"] == "same"
    assert result["metrics"]["step"] == 20
    assert house.event_types(job_id)[-1] == "job.promoted"


def test_a_step_whose_file_is_lost_is_not_promoted(house: House, promoter: Consumer[Any, Any]) -> None:
    job_id = train(house, steps=20, samples={**SPEC["samples"], "every": 10})
    own = house.adapters(job_id)
    with house.sessions() as session:
        key = step_adapters.get_step(session, job_id, 10).files["diffusers"]["key"]
    house.storage.put(key, b"something else")
    ask_for(house, job_id, 10)
    assert promoter.run_next()
    promotion = read_promotion(house, job_id)
    assert promotion.status == "failed" and promotion.error is not None
    assert promotion.error["detail"] == "A file of step 10 was damaged in storage: promote another step."
    assert house.adapters(job_id) == own


def test_of_the_last_alone_one_step_is_kept_beside_the_jobs_own(house: House) -> None:
    job_id = train(house, steps=30, checkpoints={"every": 10, "adapters": "last"})
    assert list(list_steps(house, job_id)) == [30]
    assert sorted(key for key in find_keys(house, job_id) if "/adapters/" in key) == sorted(
        key for key in find_keys(house, job_id) if "step-000030" in key and "/adapters/" in key
    )


def find_keys(house: House, job_id: str) -> list[str]:
    return [file.key for file in house.storage.list(f"jobs/{job_id}")]


@pytest.mark.slow
def test_requested_samples_change_no_byte_of_a_job_that_is_killed_between_them(house: House) -> None:
    """The trainer is killed after its first answer; the next attempt gives the second."""
    spec = {"steps": 600, "checkpoints": {"every": 50}, "samples": {**SPEC["samples"], "every": 300}}
    undisturbed = train(house, **spec)
    job_id = house.submit(**{**SPEC, **spec})
    with house.running():
        house.wait_for_step(job_id, 20)
        first = request(house, job_id, "a zap", "what nobody has seen")
        wait_for(lambda: read_request(house, job_id, first).status == "drawn", 60)
        pid = house.trainer_pid
        second = request(house, job_id, "a zap")
        os.kill(pid, signal.SIGKILL)
    assert house.job(job_id).status == JobStatus.QUEUED, house.history(job_id)
    assert read_request(house, job_id, second).status == "waiting"
    house.due_now(job_id)
    assert house.run()
    job = house.job(job_id)
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2), house.history(job_id)
    answered = [read_request(house, job_id, one) for one in (first, second)]
    assert [(one.status, len(one.images)) for one in answered] == [("drawn", 2), ("drawn", 1)]
    assert answered[0].step and answered[0].step >= 20
    assert house.event_types(job_id).count("job.requested_samples") == 2
    assert house.adapters(job_id) == house.adapters(undisturbed)
    assert list_steps(house, job_id) == list_steps(house, undisturbed)
    assert read_checkpoint(house, job_id) == read_checkpoint(house, undisturbed)


def read_checkpoint(house: House, job_id: str) -> tuple[int, str]:
    with house.sessions() as session:
        last = jobs.list_checkpoints(session, job_id)[-1]
    return last.step, last.sha256
