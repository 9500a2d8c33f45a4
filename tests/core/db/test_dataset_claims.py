"""The fence: who does not hold the dataset under this very attempt changes nothing."""

from collections.abc import Callable

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from core.db import dataset_claims, leases
from core.db.dataset_claims import ValidationClaim
from core.db.leases import MAX_DEATHS
from core.db.tables import Dataset
from core.domain.dataset import DatasetManifest, DatasetReport
from core.domain.errors import DatasetRejected
from core.domain.states import DatasetStatus
from core.storage import MemoryStorage
from tests.fixtures.datasets import read, upload

Sessions = sessionmaker[Session]
REPORT = DatasetReport(num_files=0, num_images=0)
MANIFEST = DatasetManifest(images=())


def claim(sessions: Sessions, lease_seconds: float = 60) -> ValidationClaim | None:
    with sessions.begin() as session:
        return dataset_claims.claim_validation(session, lease_seconds=lease_seconds)


def must_claim(sessions: Sessions, lease_seconds: float = 60) -> ValidationClaim:
    claimed = claim(sessions, lease_seconds)
    assert claimed is not None
    return claimed


def expire(sessions: Sessions) -> list[str]:
    with sessions.begin() as session:
        return [dataset.id for dataset in dataset_claims.expire_validations(session)]


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def dataset_id(sessions: Sessions, storage: MemoryStorage) -> str:
    return upload(sessions, storage, {"b.png": b"22", "a.png": b"1"})


def test_a_claim_lists_the_files_by_name(sessions: Sessions, dataset_id: str) -> None:
    claimed = must_claim(sessions)

    assert (claimed.id, claimed.attempt) == (dataset_id, 1)
    assert [(file.filename, file.size) for file in claimed.files] == [("a.png", 1), ("b.png", 2)]


def test_one_holder_at_a_time(sessions: Sessions, dataset_id: str) -> None:
    assert claim(sessions) is not None
    assert claim(sessions) is None


def test_two_at_once_get_different_ones(sessions: Sessions, storage: MemoryStorage) -> None:
    ids = {upload(sessions, storage, {}), upload(sessions, storage, {})}
    with sessions.begin() as first, sessions.begin() as second:
        claims = [dataset_claims.claim_validation(session, lease_seconds=60) for session in (first, second)]

    assert {claimed.id for claimed in claims if claimed} == ids


def test_the_oldest_first_but_those_that_killed_workers_last(sessions: Sessions, storage: MemoryStorage) -> None:
    ids = [upload(sessions, storage, {}) for _ in range(3)]
    must_claim(sessions, lease_seconds=-1)
    expire(sessions)

    assert [must_claim(sessions).id for _ in ids] == [ids[1], ids[2], ids[0]]


@pytest.mark.parametrize("status", [DatasetStatus.OPEN, DatasetStatus.READY, DatasetStatus.REJECTED])
def test_others_are_not_claimed(sessions: Sessions, dataset_id: str, status: DatasetStatus) -> None:
    with sessions.begin() as session:
        session.execute(update(Dataset).values(status=status))

    assert claim(sessions) is None


def test_each_deferral_doubles_the_wait_up_to_five_minutes(sessions: Sessions, dataset_id: str) -> None:
    pauses = []
    for _ in range(9):
        with sessions.begin() as session:
            session.execute(update(Dataset).values(run_after=None))
        held = must_claim(sessions)
        with sessions.begin() as session:
            assert leases.release(session, Dataset, held, "The disk is full.")
            left = Dataset.run_after - func.clock_timestamp()
            pauses.append(round(session.execute(select(func.extract("epoch", left))).scalar_one()))
    assert claim(sessions) is None
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]


Write = Callable[[Session, ValidationClaim], bool]
WRITES: dict[str, Write] = {
    "renew": lambda session, held: leases.renew(session, Dataset, held, lease_seconds=60),
    "ready": lambda session, held: dataset_claims.commit_ready(session, held, MANIFEST, REPORT),
    "rejected": lambda session, held: dataset_claims.commit_rejected(session, held, DatasetRejected("No."), REPORT),
    "give back": lambda session, held: leases.release(session, Dataset, held),
}


def snapshot(sessions: Sessions, dataset_id: str) -> dict[str, object]:
    with sessions() as session:
        row = session.execute(select(Dataset.__table__).where(Dataset.id == dataset_id)).mappings().one()
    return dict(row)


def attempt_write(sessions: Sessions, write: str, held: ValidationClaim) -> bool:
    with sessions.begin() as session:
        return WRITES[write](session, held)


@pytest.mark.parametrize("write", WRITES)
def test_the_holder_writes(sessions: Sessions, dataset_id: str, write: str) -> None:
    assert attempt_write(sessions, write, must_claim(sessions))


@pytest.mark.parametrize("write", WRITES)
def test_a_late_holder_changes_nothing(sessions: Sessions, dataset_id: str, write: str) -> None:
    late = must_claim(sessions, lease_seconds=-1)
    expire(sessions)
    before = snapshot(sessions, dataset_id)
    assert not attempt_write(sessions, write, late)
    assert snapshot(sessions, dataset_id) == before

    must_claim(sessions)
    before = snapshot(sessions, dataset_id)
    assert not attempt_write(sessions, write, late)
    assert snapshot(sessions, dataset_id) == before


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("end", ["ready", "rejected"])
def test_what_ended_stays(sessions: Sessions, dataset_id: str, write: str, end: str) -> None:
    held = must_claim(sessions)
    attempt_write(sessions, end, held)
    before = snapshot(sessions, dataset_id)

    assert not attempt_write(sessions, write, held)
    assert snapshot(sessions, dataset_id) == before


def test_a_late_holder_is_kept_out_when_a_number_is_given_out_again(sessions: Sessions, dataset_id: str) -> None:
    late = must_claim(sessions, lease_seconds=-1)
    expire(sessions)
    polite = must_claim(sessions)
    attempt_write(sessions, "give back", polite)
    assert read(sessions, dataset_id).attempt == late.attempt
    assert not attempt_write(sessions, "ready", late)

    again = must_claim(sessions)
    assert again.attempt == polite.attempt
    assert not attempt_write(sessions, "ready", late)
    assert attempt_write(sessions, "ready", again)


def test_a_lease_that_is_not_over_is_not_taken_back(sessions: Sessions, dataset_id: str) -> None:
    must_claim(sessions, lease_seconds=60)

    assert expire(sessions) == []


def test_a_dataset_that_kills_its_workers_is_rejected_at_last(sessions: Sessions, dataset_id: str) -> None:
    for attempt in range(1, MAX_DEATHS + 1):
        assert read(sessions, dataset_id).status == DatasetStatus.VALIDATING
        assert must_claim(sessions, lease_seconds=-1).attempt == attempt
        assert expire(sessions) == [dataset_id]
    dataset = read(sessions, dataset_id)

    assert dataset.status == DatasetStatus.REJECTED
    assert dataset.error is not None
    assert dataset.error["title"] == "The dataset could not be validated"
    assert dataset.validated_at is not None
    assert claim(sessions) is None


def test_giving_back_is_never_counted(sessions: Sessions, dataset_id: str) -> None:
    for _ in range(2 * MAX_DEATHS):
        attempt_write(sessions, "give back", must_claim(sessions))
    must_claim(sessions, lease_seconds=-1)
    expire(sessions)

    assert read(sessions, dataset_id).status == DatasetStatus.VALIDATING


def test_only_what_nobody_holds_waits(sessions: Sessions, dataset_id: str) -> None:
    with sessions() as session:
        assert leases.count_waiting(session, Dataset) == 1
        must_claim(sessions)
        session.rollback()
        assert leases.count_waiting(session, Dataset) == 0
