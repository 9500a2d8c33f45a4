"""A queued job says its place, and its time counts what is ahead of it."""

import json
from typing import Any

import pytest

from app.dashboard.views import JobView
from core.db import job_claims, jobs, waiting
from tests.app.conftest import LiveApi
from tests.app.factory import Worker, submit
from worker.jobs.reports import describe_progress


def look(api: LiveApi, job: dict[str, Any]) -> dict[str, Any]:
    return dict(api.client.get(f"/jobs/{job['id']}").json())


def test_places_follow_priority_and_age(api: LiveApi) -> None:
    first, second = submit(api), submit(api)
    urgent = submit(api, priority=5)
    assert [look(api, job)["queue_position"] for job in (urgent, first, second)] == [1, 2, 3]
    listed = {job["id"]: job["queue_position"] for job in api.client.get("/jobs").json()["data"]}
    assert listed == {urgent["id"]: 1, first["id"]: 2, second["id"]: 3}
    api.client.post(f"/jobs/{first['id']}/pause")
    assert look(api, first)["queue_position"] is None
    assert look(api, second)["queue_position"] == 2
    resumed = api.client.post(f"/jobs/{first['id']}/resume").json()
    assert resumed["queue_position"] == 2, "by its age, not by when it came back"
    Worker(api, urgent["id"])
    assert [look(api, job)["queue_position"] for job in (urgent, first, second)] == [None, 1, 2]


def test_the_time_of_a_queued_job_counts_what_is_ahead(own_api: LiveApi) -> None:
    """No worker was heard of: one slot is thought to be there."""
    first, second, third = submit(own_api), submit(own_api), submit(own_api)
    took = first["estimate"]["seconds"]
    etas = [look(own_api, job)["progress"]["eta_seconds"] for job in (first, second, third)]
    assert etas == pytest.approx([took, 2 * took, 3 * took], abs=0.2)
    worker = Worker(own_api, first["id"])
    progress = describe_progress(step=1, num_steps=10, loss=1.0, seconds_per_step=1000.0, unit=None)
    worker.write(job_claims.renew_lease, worker.claim, lease_seconds=3600.0, progress=progress)
    assert look(own_api, first)["progress"]["eta_seconds"] == 9000.0
    assert look(own_api, second)["progress"]["eta_seconds"] == pytest.approx(9000 + took, abs=0.2)
    assert look(own_api, third)["progress"]["eta_seconds"] == pytest.approx(9000 + 2 * took, abs=0.2)


def test_another_tenants_jobs_are_not_counted(api: LiveApi, other: LiveApi) -> None:
    submit(other, priority=100)
    assert look(api, submit(api))["queue_position"] == 1


def test_the_stream_says_the_place_of_a_job_that_waits(api: LiveApi) -> None:
    """The answer that accepts a job has none, and a client that waits reads the stream alone."""
    submit(api)
    url = submit(api)["urls"]["events"]
    with api.client.stream("GET", url, headers={"Accept": "text/event-stream"}) as answer:
        lines = answer.iter_lines()
        next(line for line in lines if line == "event: progress")
        shown = json.loads(next(lines).removeprefix("data: "))
    assert shown["queue_position"] == 2 and shown["progress"]["eta_seconds"] > 0


def test_the_dashboard_shows_the_place(api: LiveApi) -> None:
    first, second = submit(api), submit(api)
    with api.sessions() as session:
        places = waiting.find_places(session, api.tenant_id)
        rows = {job["id"]: jobs.get_job(session, api.tenant_id, job["id"]) for job in (first, second)}
        shown = [JobView.of(row, places[job_id]) for job_id, row in rows.items()]
    assert [view.queue_position for view in shown] == [1, 2]
    assert shown[0].eta_seconds is not None and shown[1].eta_seconds is not None
    assert shown[0].eta_seconds <= shown[1].eta_seconds
