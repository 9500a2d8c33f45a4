"""From a waiting row to a committed outcome, on a real PostgreSQL."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from sqlalchemy import delete, func, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from core.db import dataset_claims, leases
from core.db.tables import DEFAULT_TENANT, Dataset, DatasetFile
from core.domain.artifacts import dataset_prefix
from core.domain.dataset import DatasetManifest
from core.domain.states import DatasetStatus
from core.settings import Settings
from core.storage import MemoryStorage, StorageFull, StorageUnavailable
from tests.fixtures.datasets import read, upload
from tests.fixtures.pictures import png
from tests.worker.datasets.hostile import zip_of
from worker.consumer import Consumer, open_consumer
from worker.datasets.service import Validation, validate_next

Sessions = sessionmaker[Session]
AnyConsumer = Consumer[Any, Any]


class WatchedStorage(MemoryStorage):
    """Calls ``on_put`` before each put, once armed."""

    def __init__(self) -> None:
        super().__init__()
        self.on_put: Callable[[], None] = lambda: None

    def put(self, key: str, source: BinaryIO | bytes, **options: Any):
        self.on_put()
        return super().put(key, source, **options)


@pytest.fixture
def storage() -> WatchedStorage:
    return WatchedStorage()


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return Settings(
        database_url=database_url, redis_url="redis://nowhere", storage=str(tmp_path / "storage"), max_images=20,
        heartbeat_seconds=0.05, lease_seconds=20,
    )  # fmt: skip


@pytest.fixture
def drain() -> threading.Event:
    return threading.Event()


@pytest.fixture
def validator(settings: Settings, sessions: Sessions, storage: WatchedStorage, drain: threading.Event) -> AnyConsumer:
    return Consumer(Validation, settings, sessions, storage, drain)


GOOD = {"set.zip": zip_of(("a.png", png(1)), ("b.png", png(2)), ("a.txt", b"a blip"), ("c.png", b"broken"))}


def keys(storage: MemoryStorage, dataset_id: str) -> list[str]:
    return [stat.key for stat in storage.list(dataset_prefix(dataset_id))]


def test_nothing_waits(validator: AnyConsumer) -> None:
    assert not validator.run_next()


def test_ready(validator: AnyConsumer, sessions: Sessions, storage: WatchedStorage) -> None:
    dataset_id = upload(sessions, storage, GOOD)

    assert validator.run_next()
    assert not validator.run_next()

    dataset = read(sessions, dataset_id)
    manifest = DatasetManifest.model_validate(dataset.manifest)
    assert dataset.status == DatasetStatus.READY
    assert [(image.name, image.caption) for image in manifest.images] == [("a.png", "a blip"), ("b.png", None)]
    assert dataset.manifest_sha256 == manifest.content_hash()
    assert dataset.report is not None
    assert dataset.report["left_out"][0]["file"] == "c.png"
    assert (dataset.error, dataset.lease_until) == (None, None)
    assert dataset.validated_at is not None
    assert keys(storage, dataset_id) == sorted(image.key for image in manifest.images), "the uploads are gone"


def test_the_same_set_has_the_same_hash(validator: AnyConsumer, sessions: Sessions, storage: WatchedStorage) -> None:
    ids = [upload(sessions, storage, GOOD) for _ in range(2)]
    while validator.run_next():
        pass

    assert len({read(sessions, dataset_id).manifest_sha256 for dataset_id in ids}) == 1


def test_rejected(validator: AnyConsumer, sessions: Sessions, storage: WatchedStorage) -> None:
    dataset_id = upload(sessions, storage, {"a.png": b"text", "b.txt": b"x"})

    assert validator.run_next()

    dataset = read(sessions, dataset_id)
    assert dataset.status == DatasetStatus.REJECTED
    assert dataset.manifest is None
    assert dataset.error is not None
    assert dataset.error["type"] == "/problems/dataset-rejected"
    assert dataset.error["title"] == "Dataset rejected"
    assert "a.png: It is not an image" in dataset.error["detail"]
    assert dataset.report is not None
    assert dataset.report["num_files"] == 2
    assert keys(storage, dataset_id) == []


def test_a_hostile_archive_leaves_nothing(validator: AnyConsumer, sessions: Sessions, storage: WatchedStorage) -> None:
    dataset_id = upload(sessions, storage, {"a.png": png(1), "set.zip": zip_of(("../a.png", b"x"))})
    validator.run_next()

    dataset = read(sessions, dataset_id)
    assert dataset.error is not None
    assert dataset.error["type"] == "/problems/archive-rejected"
    assert keys(storage, dataset_id) == []


def test_words_that_no_database_takes(validator: AnyConsumer, sessions: Sessions, storage: WatchedStorage) -> None:
    metadata = rb'{"file_name": "a.png", "text": "x\u0000y\ud800z"}'
    dataset_id = upload(sessions, storage, {"a.png": png(1), "metadata.jsonl": metadata})
    validator.run_next()

    assert DatasetManifest.model_validate(read(sessions, dataset_id).manifest).images[0].caption == "x y?z"


# --- the fence -----------------------------------------------------------------------------------------


def take_over(sessions: Sessions) -> None:
    """Another worker claims it, as if this one had been frozen past its lease."""
    with sessions.begin() as session:
        session.execute(update(Dataset).values(lease_until=None))
        assert dataset_claims.claim_validation(session, lease_seconds=60)


def test_a_late_commit_changes_nothing(
    validator: AnyConsumer, sessions: Sessions, storage: WatchedStorage, settings: Settings
) -> None:
    dataset_id = upload(sessions, storage, GOOD)
    storage.on_put = once(lambda: take_over(sessions))

    assert validator.run_next()

    dataset = read(sessions, dataset_id)
    assert (dataset.status, dataset.attempt, dataset.manifest) == (DatasetStatus.VALIDATING, 2, None)
    assert dataset.lease_until is not None
    assert any("/uploads/" in key for key in keys(storage, dataset_id)), "the next holder needs them"


def once(act: Callable[[], None]) -> Callable[[], None]:
    left = [act]
    return lambda: left.pop()() if left else None


def test_a_set_that_was_deleted_meanwhile_leaves_nothing(
    validator: AnyConsumer, sessions: Sessions, storage: WatchedStorage
) -> None:
    dataset_id = upload(sessions, storage, GOOD)

    def delete_it() -> None:
        with sessions.begin() as session:
            session.execute(delete(DatasetFile))
            session.execute(delete(Dataset))
        storage.delete_prefix(dataset_prefix(dataset_id))

    storage.on_put = once(delete_it)
    assert validator.run_next()
    assert keys(storage, dataset_id) == []


def test_a_late_worker_keeps_what_revisions_share(
    validator: AnyConsumer, sessions: Sessions, storage: WatchedStorage
) -> None:
    """Another one finished the set meanwhile, a revision was made of it, and the set was deleted."""
    dataset_id = upload(sessions, storage, GOOD)
    shared: list[str] = []

    def finish_and_delete_it() -> None:
        take_over(sessions)
        shared.append(storage.put(f"{dataset_prefix(dataset_id)}images/{'0' * 64}.png", b"x").key)
        with sessions.begin() as session:
            session.execute(delete(DatasetFile))
            session.execute(delete(Dataset))
            manifest = {"images": [{"key": shared[0]}]}
            session.add(Dataset(id="ds_r", tenant_id=DEFAULT_TENANT, status=DatasetStatus.READY, manifest=manifest))

    storage.on_put = once(finish_and_delete_it)
    assert validator.run_next()
    assert keys(storage, dataset_id) == shared


def test_the_lease_is_renewed_while_it_lasts(
    sessions: Sessions, storage: WatchedStorage, settings: Settings, drain: threading.Event
) -> None:
    short = settings.model_copy(update={"lease_seconds": 1.0})
    dataset_id = upload(sessions, storage, GOOD)
    seen: list[Any] = []

    def wait_for_a_renewal() -> None:
        first = read(sessions, dataset_id).lease_until
        while read(sessions, dataset_id).lease_until == first:
            threading.Event().wait(0.01)
        seen.append(first)

    storage.on_put = once(wait_for_a_renewal)
    Consumer(Validation, short, sessions, storage, drain).run_next()

    assert len(seen) == 1
    assert read(sessions, dataset_id).status == DatasetStatus.READY


def test_a_lost_lease_ends_the_work(validator: AnyConsumer, sessions: Sessions, storage: WatchedStorage) -> None:
    """Not only the commit: the heartbeat tells, and no further image is stored."""
    upload(sessions, storage, {f"{number}.png": png(number) for number in range(20)})
    num_puts = 0

    def lose_and_wait() -> None:
        nonlocal num_puts
        num_puts += 1
        if num_puts == 1:
            take_over(sessions)
            threading.Event().wait(1.0)

    storage.on_put = lose_and_wait
    validator.run_next()

    assert num_puts == 1


# --- no fault of the set's ---------------------------------------------------------------------------------


def test_a_drain_gives_it_back_uncharged(
    validator: AnyConsumer, sessions: Sessions, storage: WatchedStorage, drain: threading.Event
) -> None:
    dataset_id = upload(sessions, storage, GOOD)
    storage.on_put = drain.set

    assert validator.run_next()
    assert not validator.run_next(), "a draining worker takes no more"

    dataset = read(sessions, dataset_id)
    assert (dataset.status, dataset.attempt, dataset.lease_until) == (DatasetStatus.VALIDATING, 0, None)

    drain.clear()
    storage.on_put = lambda: None
    assert validator.run_next()
    assert read(sessions, dataset_id).status == DatasetStatus.READY


def test_a_storage_out_of_reach_gives_it_back_uncharged(
    validator: AnyConsumer, sessions: Sessions, storage: WatchedStorage
) -> None:
    dataset_id = upload(sessions, storage, GOOD)

    def fail() -> None:
        raise StorageUnavailable("no route")

    storage.on_put = fail
    with pytest.raises(StorageUnavailable):
        validator.run_next()

    dataset = read(sessions, dataset_id)
    assert (dataset.status, dataset.attempt, dataset.lease_until) == (DatasetStatus.VALIDATING, 0, None)


def test_one_that_fails_for_no_fault_of_its_own_waits_and_says_why_while_others_go_on(
    validator: AnyConsumer, sessions: Sessions, storage: WatchedStorage
) -> None:
    late, other = upload(sessions, storage, GOOD), upload(sessions, storage, GOOD)

    def fail() -> None:
        raise StorageFull("/srv/atelier: no space left")

    storage.on_put = fail
    with pytest.raises(StorageFull):
        validator.run_next()
    storage.on_put = lambda: None
    assert [validator.run_next(), validator.run_next()] == [True, False]

    assert read(sessions, other).status == DatasetStatus.READY
    waiting = read(sessions, late)
    assert (waiting.status, waiting.num_deferrals) == (DatasetStatus.VALIDATING, 1)
    assert (
        waiting.waiting_reason is not None
        and "storage is full" in waiting.waiting_reason
        and "/srv" not in waiting.waiting_reason
    )
    with sessions.begin() as session:
        assert leases.count_waiting(session, Dataset) == 0
        session.execute(update(Dataset).values(run_after=func.clock_timestamp()))
    assert validator.run_next()
    assert (read(sessions, late).status, read(sessions, late).waiting_reason) == (DatasetStatus.READY, None)


def test_a_fault_of_ours_is_charged_and_left_to_the_lease(
    validator: AnyConsumer, sessions: Sessions, storage: WatchedStorage
) -> None:
    dataset_id = upload(sessions, storage, GOOD)

    def fail() -> None:
        raise ZeroDivisionError

    storage.on_put = fail
    with pytest.raises(ZeroDivisionError):
        validator.run_next()

    dataset = read(sessions, dataset_id)
    assert (dataset.status, dataset.attempt) == (DatasetStatus.VALIDATING, 1)
    assert dataset.lease_until is not None


def test_scratch_is_removed(
    validator: AnyConsumer, sessions: Sessions, storage: WatchedStorage, settings: Settings, tmp_path: Path
) -> None:
    abandoned = tmp_path / "atelier-validation-killed"
    abandoned.mkdir()
    (abandoned / "in-use").touch()
    (abandoned / "000001").write_bytes(b"left by a killed worker")
    upload(sessions, storage, GOOD)
    validator.run_next()

    assert list(tmp_path.glob("atelier-*")) == []


# --- as the worker calls it ------------------------------------------------------------------------------


@pytest.fixture
def opened() -> Iterator[None]:
    open_consumer.cache_clear()
    yield
    open_consumer.cache_clear()


def test_from_settings_alone(settings: Settings, sessions: Sessions, opened: None) -> None:
    from core.storage import open_storage

    dataset_id = upload(sessions, open_storage(settings.storage_location), GOOD)

    assert validate_next(settings)
    assert not validate_next(settings)
    assert read(sessions, dataset_id).status == DatasetStatus.READY


def test_a_database_out_of_reach_is_raised(settings: Settings, opened: None) -> None:
    with pytest.raises(OperationalError):
        validate_next(settings.model_copy(update={"database_url": "postgresql://127.0.0.1:1/none"}))
