"""The broker or the database is away: what a client is answered, and that training goes on."""

import re

import httpx
import pytest
from sqlalchemy import select

from cli.local.tree import is_ready
from core.db.tables import Job, JobEvent, JobMetric
from core.domain.artifacts import job_prefix
from tests.chaos.clients import PostedJob
from tests.chaos.conftest import Service
from tests.chaos.specs import body_of
from tests.chaos.stack import BUCKET, PREFIX, Stack
from tests.chaos.undisturbed import TERMINAL, await_status
from tests.fixtures.servers import frozen, wait_for

pytestmark = pytest.mark.slow

PROMPT_SECONDS = 20.0
"""The API's own time-out of the database is 15 s; a client's would be 30."""


def ask(service: Service, method: str, path: str, **options: object) -> httpx.Response:
    """Once, without patience."""
    headers = {"Authorization": f"Bearer {service.stack.api_key}"}
    with httpx.Client(base_url=service.stack.url, headers=headers, timeout=PROMPT_SECONDS, trust_env=False) as client:
        return client.request(method, path, **options)  # type: ignore[arg-type]


def succeed(service: Service, posted: PostedJob) -> None:
    status = await_status(service.stack, service.client, f"/jobs/{posted.job_id}", TERMINAL)
    assert status == "succeeded", service.client.get(f"/jobs/{posted.job_id}")["error"]


def test_jobs_are_accepted_without_the_broker_and_run_once_it_is_back(service: Service) -> None:
    service.stack.valkey.kill()
    try:
        body = body_of("lion-accumulation", service.dataset_id, steps=4, seed=11)
        answer = ask(service, "POST", "/jobs", json=body)
        assert answer.status_code == 201, answer.text
        job_id = answer.json()["id"]
        assert ask(service, "GET", f"/jobs/{job_id}").json()["status"] == "queued"
    finally:
        service.stack.valkey.start()
    succeed(service, PostedJob("", "", [job_id]))


def test_training_goes_on_without_the_database_and_clients_are_informed(service: Service) -> None:
    """The job ends under the attempt that it began with, by steps that it took while there was no database."""
    stack = service.stack
    posted = service.client.post_job("outage", "adamw-fp32", service.dataset_id, steps=80, seed=12)
    wait_for(lambda: keep(service) and find_newest_checkpoint(stack, posted) >= 4, 120)
    stack.postgres.kill()
    try:
        seen = find_newest_checkpoint(stack, posted)
        check_refusals(service, posted.job_id)
        wait_for(lambda: keep(service) and find_newest_checkpoint(stack, posted) >= seen + 12, 120)
    finally:
        stack.postgres.start()
    succeed(service, posted)
    with stack.sessions() as session:
        assert session.get_one(Job, posted.job_id).attempt == 1
        types = session.execute(select(JobEvent.type).where(JobEvent.job_id == posted.job_id)).scalars().all()
        steps = session.execute(select(JobMetric.step).where(JobMetric.job_id == posted.job_id)).scalars().all()
    assert types.count("job.running") == 1
    assert sorted(steps) == list(range(1, 81))


def test_a_database_that_hangs_holds_up_nobody(service: Service) -> None:
    with frozen(service.stack.postgres.pid):
        check_refusals(service, "job_none")
    wait_for(lambda: keep(service) and is_ready(service.stack.url), 120)


def check_refusals(service: Service, job_id: str) -> None:
    """Reads and writes alike: 503, when to come again, and why; in time."""
    body = body_of("adamw-fp32", service.dataset_id)
    answers = [ask(service, "GET", f"/jobs/{job_id}"), ask(service, "GET", "/datasets"),
               ask(service, "POST", "/jobs", json=body)]  # fmt: skip
    for answer in answers:
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.json()["type"] == "/problems/unavailable"
    assert ask(service, "GET", "/readyz").status_code == 503
    assert ask(service, "GET", "/healthz").status_code == 200


def find_newest_checkpoint(stack: Stack, posted: PostedJob) -> int:
    """Its step, by what lies in the store: checkpoints are there before a row names them. 0 when there is none."""
    folder = f"{PREFIX}/{job_prefix(posted.job_id)}"
    objects = stack.store.list_objects_v2(Bucket=BUCKET, Prefix=folder).get("Contents", [])
    steps = [re.search(r"checkpoints/step-(\d+)", entry["Key"]) for entry in objects]
    return max((int(step[1]) for step in steps if step), default=0)


def keep(service: Service) -> bool:
    service.stack.keep()
    return True
