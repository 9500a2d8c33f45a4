"""The clients' side of datasets, on PostgreSQL."""

import hashlib
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from core.db import datasets
from core.db.datasets import NewFile, Totals
from core.db.tables import DEFAULT_TENANT, Job, Model, Tenant
from core.domain.errors import NotFound, WrongState
from core.domain.states import DatasetStatus, JobStatus

OTHER = "ten_other"


@pytest.fixture
def session(sessions: sessionmaker[Session]) -> Iterator[Session]:
    with sessions() as session:
        session.add(Tenant(id=OTHER, name="other"))
        session.flush()
        yield session


def add(
    session: Session, dataset_id: str, status: DatasetStatus = DatasetStatus.OPEN, tenant: str = DEFAULT_TENANT
) -> None:
    datasets.insert_dataset(session, dataset_id=dataset_id, tenant_id=tenant, name=None, status=status)


def file(name: str, size: int = 1) -> NewFile:
    return NewFile(id=f"id-{name}-{size}", filename=name, key=f"k/{name}-{size}", sha256="0" * 64, size=size)


def test_another_tenants_dataset_is_not_found(session: Session) -> None:
    add(session, "ds_1", tenant=OTHER)
    with pytest.raises(NotFound, match="ds_1"):
        datasets.get_dataset(session, DEFAULT_TENANT, "ds_1")
    with pytest.raises(NotFound):
        datasets.delete_dataset(session, DEFAULT_TENANT, "ds_1")
    assert datasets.list_datasets(session, DEFAULT_TENANT) == ([], False)


def test_only_an_open_dataset_can_be_filled(session: Session) -> None:
    for status in DatasetStatus:
        add(session, f"ds_{status}", status)
    assert datasets.lock_open_dataset(session, DEFAULT_TENANT, "ds_open").id == "ds_open"
    for status in set(DatasetStatus) - {DatasetStatus.OPEN}:
        with pytest.raises(WrongState, match=status):
            datasets.lock_open_dataset(session, DEFAULT_TENANT, f"ds_{status}")


def test_files_are_counted_per_dataset(session: Session) -> None:
    add(session, "ds_1")
    add(session, "ds_2")
    datasets.insert_files(session, "ds_1", [file("b", 10), file("a", 5)])
    lines = "a\n{sha256}\nb\n{sha256}\n".format(sha256=file("a", 5).sha256)
    counted = Totals(2, 15, hashlib.sha256(lines.encode()).hexdigest())
    assert datasets.total_files(session, "ds_1") == counted
    assert datasets.total_files(session, "ds_2") == Totals(0, 0)
    assert datasets.total_files_of(session, ["ds_1", "ds_2"]) == {"ds_1": counted}
    assert [row.filename for row in datasets.list_files(session, "ds_1")] == ["a", "b"]


def test_a_file_of_the_same_name_is_replaced(session: Session) -> None:
    add(session, "ds_1")
    assert datasets.put_file(session, "ds_1", file("a", 1)) is None
    assert datasets.put_file(session, "ds_1", file("a", 2)) == "k/a-1"
    assert [row.size for row in datasets.list_files(session, "ds_1")] == [2]
    assert datasets.get_file(session, "id-a-2").key == "k/a-2"


def test_a_name_stands_once(session: Session) -> None:
    add(session, "ds_1")
    with pytest.raises(IntegrityError):
        datasets.insert_files(session, "ds_1", [file("a", 1), file("a", 2)])


def test_pages_go_from_new_to_old(session: Session) -> None:
    for number in range(5):
        add(session, f"ds_{number}", DatasetStatus.READY if number % 2 else DatasetStatus.OPEN)
    rows, has_more = datasets.list_datasets(session, DEFAULT_TENANT, limit=2)
    assert ([row.id for row in rows], has_more) == (["ds_4", "ds_3"], True)
    rows, has_more = datasets.list_datasets(session, DEFAULT_TENANT, after="ds_3", limit=3)
    assert ([row.id for row in rows], has_more) == (["ds_2", "ds_1", "ds_0"], False)
    rows, _ = datasets.list_datasets(session, DEFAULT_TENANT, status=DatasetStatus.READY)
    assert [row.id for row in rows] == ["ds_3", "ds_1"]


def test_a_dataset_goes_with_its_files_but_not_from_under_a_job(session: Session) -> None:
    add(session, "ds_1")
    datasets.insert_files(session, "ds_1", [file("a")])
    session.add(Model(id="m", status="ready", location="/m", info={}))
    session.flush()
    job = Job(
        id="job_1", tenant_id=DEFAULT_TENANT, model_id="m", dataset_id="ds_1", status=JobStatus.CANCELED,
        spec={}, plan={}, estimate={},
    )  # fmt: skip
    session.add(job)
    session.flush()
    with pytest.raises(WrongState, match="job_1"):
        datasets.delete_dataset(session, DEFAULT_TENANT, "ds_1")
    session.delete(job)
    session.flush()
    datasets.delete_dataset(session, DEFAULT_TENANT, "ds_1")
    assert datasets.total_files_of(session, ["ds_1"]) == {}
    with pytest.raises(NotFound):
        datasets.get_dataset(session, DEFAULT_TENANT, "ds_1")
