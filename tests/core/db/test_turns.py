"""Whose job is next: shares between tenants, the running quota, and many workers that choose at once."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from core.db import job_claims, jobs, turns
from core.db.job_claims import Claim
from core.db.session import make_sessions, open_engine
from core.db.tables import Dataset, Job, JobEvent, Model, Quota, Tenant
from core.domain.states import JobStatus, TerminationReason

Sessions = sessionmaker[Session]
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def model(sessions: Sessions) -> None:
    with sessions.begin() as session:
        session.add(Model(id="m", status="ready", location="", info={}))


def add_tenant(sessions: Sessions, name: str, num_jobs: int, *, priorities: Iterable[int] = ()) -> None:
    """Its jobs were posted one second after the other."""
    given = dict(enumerate(priorities))
    with sessions.begin() as session:
        session.add(Tenant(id=name, name=name))
        session.flush()
        session.add(Dataset(id=f"ds_{name}", tenant_id=name, status="ready"))
        session.flush()
        rows = [
            {
                "id": f"job_{name}_{number:05}", "tenant_id": name, "model_id": "m", "dataset_id": f"ds_{name}",
                "status": "queued", "spec": {}, "plan": {"images": []}, "estimate": {},
                "priority": given.get(number, 0), "created_at": START + timedelta(seconds=number),
            }
            for number in range(num_jobs)
        ]  # fmt: skip
        if rows:
            session.execute(sa.insert(Job), rows)


def claim(sessions: Sessions, slot: str, running_limit: int | None = None, warm: Sequence[str] = ()) -> Job | None:
    with sessions.begin() as session:
        return job_claims.claim_next(session, slot=slot, lease_seconds=600, running_limit=running_limit, warm=warm)


def end(sessions: Sessions, job: Job) -> None:
    with sessions.begin() as session:
        job_claims.fail(session, Claim(job.id, job.attempt), TerminationReason.BAD_INPUT, "")


def simulate(sessions: Sessions, num_claims: int, num_slots: int = 2) -> list[str]:
    """The tenants in the order in which their jobs were begun: whenever all slots are taken, the oldest job ends."""
    running: deque[tuple[str, Job]] = deque()
    free, served = [f"slot {number}" for number in range(num_slots)], list[str]()
    for _ in range(num_claims):
        if not free:
            slot, job = running.popleft()
            end(sessions, job)
            free.append(slot)
        slot = free.pop()
        taken = claim(sessions, slot)
        assert taken is not None
        running.append((slot, taken))
        served.append(taken.tenant_id)
    for _, job in running:
        end(sessions, job)
    return served


def test_a_single_job_is_not_starved_by_a_thousand(sessions: Sessions) -> None:
    add_tenant(sessions, "ten_1000", 1000)
    add_tenant(sessions, "ten_50", 50)
    num_before = simulate(sessions, 3).count("ten_50")
    add_tenant(sessions, "ten_1", 1)
    served = simulate(sessions, 150)
    assert served.index("ten_1") < 2, "within the first claims after it came"
    for start in range(2, 92, 10):
        shares = Counter(served[start : start + 10])
        assert abs(shares["ten_1000"] - shares["ten_50"]) <= 2, (start, shares)
    assert Counter(served) == {"ten_1": 1, "ten_50": 50 - num_before, "ten_1000": 99 + num_before}


def test_the_tenant_with_the_fewest_running_jobs_goes_first(sessions: Sessions) -> None:
    for name in ("ten_a", "ten_b", "ten_c"):
        add_tenant(sessions, name, 9)
    served = [job.tenant_id for n in range(6) if (job := claim(sessions, f"s{n}"))]
    assert sorted(served[:3]) == ["ten_a", "ten_b", "ten_c"]
    assert served[3:] == served[:3], "then the one that was served longest ago"


def test_priority_orders_ones_own_jobs_alone(sessions: Sessions) -> None:
    add_tenant(sessions, "ten_a", 3, priorities=(0, 5, 5))
    add_tenant(sessions, "ten_b", 1, priorities=(-100,))
    served = [job.id for n in range(4) if (job := claim(sessions, f"s{n}"))]
    assert served == ["job_ten_a_00001", "job_ten_b_00000", "job_ten_a_00002", "job_ten_a_00000"]


def test_a_deleted_job_does_not_take_back_its_turn(sessions: Sessions) -> None:
    add_tenant(sessions, "ten_a", 2)
    add_tenant(sessions, "ten_b", 2)
    first = claim(sessions, "s")
    assert first is not None and first.tenant_id == "ten_a"
    end(sessions, first)
    with sessions.begin() as session:
        jobs.delete_job(session, "ten_a", first.id)
    second = claim(sessions, "s")
    assert second is not None and second.tenant_id == "ten_b"


def test_jobs_that_are_not_due_have_no_turn(sessions: Sessions) -> None:
    add_tenant(sessions, "ten_a", 2)
    with sessions.begin() as session:
        session.execute(sa.update(Job).values(run_after=sa.func.clock_timestamp() + timedelta(hours=1)))
    assert claim(sessions, "s") is None


def test_a_job_that_its_client_holds_is_passed_over(sessions: Sessions) -> None:
    add_tenant(sessions, "ten_a", 1)
    add_tenant(sessions, "ten_b", 1)
    with sessions.begin() as session:
        jobs.cancel_job(session, "ten_a", "job_ten_a_00000")
        taken = claim(sessions, "s")
        assert taken is not None and taken.tenant_id == "ten_b"
        assert claim(sessions, "t") is None
    assert claim(sessions, "t") is None


def submit(sessions: Sessions, tenant: str, number: int, model: str, minutes_ago: float) -> None:
    with sessions.begin() as session:
        created = sa.func.clock_timestamp() - timedelta(minutes=minutes_ago)
        session.add(
            Job(
                id=f"job_{tenant}_{number:05}", tenant_id=tenant, model_id=model, dataset_id=f"ds_{tenant}",
                status="queued", spec={}, plan={"images": []}, estimate={}, created_at=created,
            )
        )  # fmt: skip


def run_all(sessions: Sessions, *, slots_on: list[str]) -> tuple[list[str], int]:
    """The models of all jobs in the order in which they were begun, and how often a slot had to load another than its
    last. Each slot begins with one of ``slots_on`` in memory."""
    memory, order, loads = list(slots_on), list[str](), 0
    running: list[Job | None] = [None] * len(memory)
    while True:
        for number, held in enumerate(memory):
            if (job := running[number]) is not None:
                end(sessions, job)
            running[number] = job = claim(sessions, f"s{number}", warm=[held])
            if job is None:
                return order, loads
            loads += job.model_id != held
            memory[number] = job.model_id
            order.append(job.model_id)


def test_a_worker_prefers_the_base_that_it_holds(sessions: Sessions) -> None:
    add_tenant(sessions, "ten_a", 0)
    with sessions.begin() as session:
        session.add(Model(id="n", status="ready", location="", info={}))
    for number in range(40):
        submit(sessions, "ten_a", number, "mn"[number % 2], 5 - number / 10)
    order, loads = run_all(sessions, slots_on=["m"])
    assert order == ["m"] * 20 + ["n"] * 20
    assert loads == 1, "in the order of submission it would be 39"


def test_no_job_is_passed_over_for_longer_than_its_patience(sessions: Sessions) -> None:
    """However many jobs there are on the base in memory, of its own tenant or of another."""
    with sessions.begin() as session:
        session.add(Model(id="n", status="ready", location="", info={}))
    for name in ("ten_a", "ten_b"):
        add_tenant(sessions, name, 0)
    for number in range(20):
        submit(sessions, "ten_a", number, "m", 5)
    submit(sessions, "ten_a", 99, "n", 9)
    submit(sessions, "ten_b", 0, "n", 9)
    for _ in range(8):
        job = claim(sessions, "s", warm=["m"])
        assert job is not None and job.model_id == "m"
        end(sessions, job)
    with sessions.begin() as session:
        older = Job.created_at - timedelta(minutes=2)
        session.execute(sa.update(Job).where(Job.model_id == "n").values(created_at=older))
    for tenant in ("ten_b", "ten_a"):
        job = claim(sessions, "s", warm=["m"])
        assert job is not None and (job.tenant_id, job.model_id) == (tenant, "n")
        end(sessions, job)


def test_priority_goes_before_the_base_in_memory(sessions: Sessions) -> None:
    add_tenant(sessions, "ten_a", 0)
    with sessions.begin() as session:
        session.add(Model(id="n", status="ready", location="", info={}))
    submit(sessions, "ten_a", 0, "m", 1)
    submit(sessions, "ten_a", 1, "n", 1)
    with sessions.begin() as session:
        session.get_one(Job, "job_ten_a_00001").priority = 1
    job = claim(sessions, "s", warm=["m"])
    assert job is not None and job.model_id == "n"


def test_the_running_quota_holds_at_the_claim(sessions: Sessions) -> None:
    """Its own, else that of the settings; a job that ended makes room."""
    add_tenant(sessions, "ten_a", 9)
    add_tenant(sessions, "ten_b", 9)
    add_tenant(sessions, "ten_c", 9)
    with sessions.begin() as session:
        session.add(Quota(tenant_id="ten_a", is_default=False, running_jobs=2))
        session.add(Quota(tenant_id="ten_b", is_default=False, running_jobs=None))
        session.add(Quota(tenant_id="ten_c", is_default=True, running_jobs=7))
    taken = [job for n in range(12) if (job := claim(sessions, f"s{n}", running_limit=1))]
    assert Counter(job.tenant_id for job in taken) == {"ten_a": 2, "ten_b": 9, "ten_c": 1}
    end(sessions, next(job for job in taken if job.tenant_id == "ten_c"))
    last = claim(sessions, "again", running_limit=1)
    assert last is not None and last.tenant_id == "ten_c"


def test_a_quota_of_no_running_jobs_holds_all(sessions: Sessions) -> None:
    add_tenant(sessions, "ten_a", 3)
    assert claim(sessions, "s", running_limit=0) is None


CLAIMERS = 16


def claim_at_once(url: str, num_rounds: int, running_limit: int | None) -> list[tuple[str, str]]:
    """(tenant, job) of every claim of 16 workers that begin together, each round with slots of their own."""
    engine = open_engine(url, pool_size=CLAIMERS)
    sessions, barrier = make_sessions(engine), Barrier(CLAIMERS)

    def work(number: int) -> list[tuple[str, str]]:
        taken = []
        for turn in range(num_rounds):
            barrier.wait(60)
            job = claim(sessions, f"w{number}/{turn}", running_limit)
            taken += [(job.tenant_id, job.id)] if job else []
        return taken

    with ThreadPoolExecutor(CLAIMERS) as pool:
        found = [pair for taken in pool.map(work, range(CLAIMERS)) for pair in taken]
    engine.dispose()
    return found


def test_sixteen_claimers_take_each_job_once_and_in_shares(sessions: Sessions, database_url: str) -> None:
    for name, num_jobs in (("ten_a", 200), ("ten_b", 200), ("ten_c", 200), ("ten_d", 1)):
        add_tenant(sessions, name, num_jobs)
    found = claim_at_once(database_url, 6, None)
    assert len(found) == len(set(found)) == 6 * CLAIMERS, "nobody went away empty, and none was taken twice"
    shares = Counter(tenant for tenant, _ in found)
    assert shares["ten_d"] == 1
    assert (
        max(shares[name] for name in ("ten_a", "ten_b", "ten_c"))
        - min(shares[name] for name in ("ten_a", "ten_b", "ten_c"))
        <= 1
    ), shares
    with sessions() as session:
        assert session.scalars(sa.select(sa.func.max(Job.attempt))).one() == 1
        begun = sa.select(sa.func.count()).where(JobEvent.type == "job.running")
        assert session.scalars(begun).one() == len(found)


def test_sixteen_claimers_do_not_exceed_a_quota(sessions: Sessions, database_url: str) -> None:
    add_tenant(sessions, "ten_a", 100)
    add_tenant(sessions, "ten_b", 100)
    found = claim_at_once(database_url, 3, 5)
    assert Counter(tenant for tenant, _ in found) == {"ten_a": 5, "ten_b": 5}


def test_a_worker_frozen_while_it_chooses_holds_up_the_others_for_seconds_only(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server cuts it off; what it had taken goes to the next."""
    monkeypatch.setattr(turns, "CHOICE_SECONDS", 1)
    add_tenant(sessions, "ten_a", 1)
    frozen = sessions()
    assert job_claims.claim_next(frozen, slot="frozen", lease_seconds=600) is not None
    job = claim(sessions, "other")
    assert job is not None and (job.status, job.attempt) == (JobStatus.RUNNING, 1)
    with pytest.raises(DBAPIError):
        frozen.commit()
    frozen.close()
