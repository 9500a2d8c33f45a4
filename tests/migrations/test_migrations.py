"""The schema: equal to the tables in Python, safe to make twice at once, and guarded by its triggers."""

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.orm import Session, sessionmaker

import migrations
from core.db.session import open_engine
from core.db.tables import DEFAULT_TENANT, Base, Dataset, Job, JobEvent, Model, Tenant
from core.domain.states import TRANSITIONS, JobStatus


def insert_job(session: Session, job_id: str, status: JobStatus) -> None:
    session.merge(Model(id="tiny", status="ready", location="/m", info={}))
    session.merge(Dataset(id="ds_1", tenant_id=DEFAULT_TENANT, status="ready"))
    session.flush()
    session.add(
        Job(
            id=job_id, tenant_id=DEFAULT_TENANT, model_id="tiny", dataset_id="ds_1", status=status,
            spec={}, plan={}, estimate={},
        )
    )  # fmt: skip
    session.flush()


def add_event(session: Session, job_id: str) -> None:
    session.add(JobEvent(id=f"evt_{job_id}", job_id=job_id, seq=1, type="job.queued", attempt=0, data={}))
    session.flush()


def list_differences(url: str) -> list[object]:
    engine = open_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        differences = compare_metadata(context, Base.metadata)
    engine.dispose()
    return differences


def test_migrated_database_equals_the_tables(owner_database_url: str) -> None:
    assert list_differences(owner_database_url) == []


def test_downgrade_leaves_nothing(owner_database_url: str) -> None:
    migrations.command.downgrade(migrations.make_config(owner_database_url), "base")
    engine = open_engine(owner_database_url)
    with engine.connect() as connection:
        functions = "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
        assert connection.execute(sa.text(functions)).all() == []
    engine.dispose()


def test_two_migrations_at_once(empty_database_url: str) -> None:
    errors: list[BaseException] = []
    barrier = threading.Barrier(2)

    def migrate() -> None:
        command = [sys.executable, "-m", "alembic", "-c", Path(migrations.__file__).with_name("alembic.ini")]
        barrier.wait()
        try:
            environment = {**os.environ, "DATABASE_URL": empty_database_url}
            environment.pop("DATABASE_OWNER_URL", None)
            subprocess.run([*command, "upgrade", "head"], cwd="/", env=environment, check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            errors.append(AssertionError(error.stderr.decode()))

    threads = [threading.Thread(target=migrate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == []
    assert list_differences(empty_database_url) == []


def test_default_tenant_is_there(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        assert session.get(Tenant, DEFAULT_TENANT) is not None


def test_trigger_allows_exactly_the_transitions(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        allowed: dict[JobStatus, set[JobStatus]] = {status: set() for status in JobStatus}
        for before in JobStatus:
            insert_job(session, f"job_{before}", before)
            for after in set(JobStatus) - {before}:
                savepoint = session.begin_nested()
                with suppress(IntegrityError):
                    session.execute(sa.update(Job).where(Job.id == f"job_{before}").values(status=after))
                    allowed[before].add(after)
                savepoint.rollback()
    assert allowed == TRANSITIONS


def test_trigger_refuses_an_unknown_status(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        insert_job(session, "job_1", JobStatus.RUNNING)
        with pytest.raises(IntegrityError, match="may not go from running to done"):
            session.execute(sa.update(Job).values(status="done"))


def test_trigger_lets_other_columns_of_an_ended_job_change(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        insert_job(session, "job_1", JobStatus.SUCCEEDED)
        session.execute(sa.update(Job).values(status="succeeded", phase=None))


@pytest.mark.parametrize(
    "statement", ["UPDATE job_events SET data = '{}'", "DELETE FROM job_events"], ids=["update", "delete"]
)
def test_events_are_append_only(sessions: sessionmaker[Session], statement: str) -> None:
    with sessions() as session:
        insert_job(session, "job_1", JobStatus.QUEUED)
        add_event(session, "job_1")
        with pytest.raises(IntegrityError, match="append-only"):
            session.execute(sa.text(statement))


def test_events_go_with_their_job(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        for job_id in ("job_1", "job_2"):
            insert_job(session, job_id, JobStatus.CANCELED)
            add_event(session, job_id)
        session.execute(sa.delete(Job).where(Job.id == "job_1"))
        assert session.scalars(sa.select(JobEvent.job_id)).all() == ["job_2"]


def test_truncate_is_refused_even_to_the_owner(owner_database_url: str) -> None:
    engine = open_engine(owner_database_url)
    with engine.connect() as connection, pytest.raises(IntegrityError, match="append-only"):
        connection.execute(sa.text("TRUNCATE job_events"))
    engine.dispose()


@pytest.mark.parametrize(
    "statement", ["DROP TABLE jobs", "ALTER TABLE jobs DISABLE TRIGGER ALL", "DELETE FROM alembic_version"]
)
def test_service_role_owns_nothing(sessions: sessionmaker[Session], statement: str) -> None:
    with sessions() as session, pytest.raises(ProgrammingError, match=r"owner|permission denied"):
        session.execute(sa.text(statement))


ROWS = """
SELECT set_config('atelier.tenant', 'ten_default', false);
INSERT INTO models (id, status, location, info) VALUES ('m', 'ready', '', '{}');
INSERT INTO datasets (id, tenant_id, status) VALUES ('ds_1', 'ten_default', 'ready');
INSERT INTO jobs (id, tenant_id, model_id, dataset_id, status, attempt, slot, spec, plan, estimate)
VALUES ('job_held', 'ten_default', 'm', 'ds_1', 'running', 2, 'host/cpu/0', '{}', '{"images": []}', '{}'),
       ('job_ended', 'ten_default', 'm', 'ds_1', 'succeeded', 1, NULL, '{}', '{"images": []}', '{}');
"""
ROWS_WITHOUT_SLOTS = ROWS.replace(", slot,", ",").replace(", 'host/cpu/0',", ",").replace(", NULL,", ",")
WITH_SLOTS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0101", "0102")
"""The revisions in which a job's slot is a column."""


@pytest.mark.parametrize("revision", WITH_SLOTS)
def test_rows_of_each_earlier_revision_survive(empty_database_url: str, revision: str) -> None:
    config = migrations.make_config(empty_database_url)
    migrations.command.upgrade(config, revision)
    engine = open_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(sa.text(ROWS))
    migrations.command.upgrade(config, "head")
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT set_config('atelier.tenant', 'ten_default', true)"))
        held = connection.execute(sa.text("SELECT slot, lane, job_id, attempt FROM slot_holds")).all()
        assert held == [("host/cpu/0", 0, "job_held", 2)]
        assert connection.execute(sa.text("SELECT count(*) FROM jobs")).scalar_one() == 2
    migrations.command.downgrade(config, "0102")
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT set_config('atelier.tenant', 'ten_default', true)"))
        assert connection.execute(sa.text("SELECT id, slot FROM jobs ORDER BY id")).all() == [
            ("job_ended", None),
            ("job_held", "host/cpu/0"),
        ]
    engine.dispose()


def test_stored_words_are_renamed_and_back(empty_database_url: str) -> None:
    """Row-level security holds for the owner too: a plain UPDATE would touch nothing, without an error."""
    config = migrations.make_config(empty_database_url)
    migrations.command.upgrade(config, "0103")
    engine = open_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(sa.text(ROWS_WITHOUT_SLOTS))
        connection.execute(sa.text('UPDATE models SET info = \'{"calibration": {"seconds_per_picture": 1}}\''))
        connection.execute(sa.text('UPDATE jobs SET result = \'{"measured": {"seconds_per_picture": 2}}\''))
        connection.execute(
            sa.text(
                'UPDATE datasets SET report = \'{"warnings": [{"code": "first-picture", "files": ["first-picture"]}]}\''
            )
        )
    read = sa.text(
        "SELECT info->'calibration', result->'measured', report->'warnings'->0 FROM models, jobs, datasets"
        " WHERE jobs.id = 'job_ended'"
    )

    def look() -> tuple[object, ...]:
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT set_config('atelier.tenant', 'ten_default', true)"))
            return tuple(connection.execute(read).one())

    before = look()
    migrations.command.upgrade(config, "head")
    assert look() == (
        {"seconds_per_image": 1},
        {"seconds_per_image": 2},
        {"code": "first-frame", "files": ["first-picture"]},
    )
    migrations.command.downgrade(config, "0103")
    assert look() == before
    engine.dispose()


def test_proofs_lose_what_is_no_longer_compared(empty_database_url: str) -> None:
    config = migrations.make_config(empty_database_url)
    migrations.command.upgrade(config, "0104")
    engine, proofs = open_engine(empty_database_url), {"kohya": {"images_match": True, "tools": [1]}}
    with engine.begin() as connection:
        connection.execute(sa.text(ROWS_WITHOUT_SLOTS))
        given = {"result": json.dumps({"note": "", "proofs": proofs})}
        connection.execute(sa.text("UPDATE jobs SET result = :result WHERE id = 'job_ended'"), given)
    migrations.command.upgrade(config, "head")
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT set_config('atelier.tenant', 'ten_default', true)"))
        results = connection.execute(sa.text("SELECT result FROM jobs ORDER BY id")).scalars().all()
        assert results == [{"note": "", "proofs": {"kohya": {"tools": [1]}}}, None]
    engine.dispose()


def test_folders_and_bytes_of_earlier_datasets_are_computed(empty_database_url: str) -> None:
    config = migrations.make_config(empty_database_url)
    migrations.command.upgrade(config, "0105")
    engine = open_engine(empty_database_url)
    images = [{"key": f"datasets/ds_1/images/{name}.png", "size": size} for name, size in (("a", 2), ("b", 3))]
    with engine.begin() as connection:
        connection.execute(sa.text(ROWS_WITHOUT_SLOTS))
        given = {"manifest": json.dumps({"images": images})}
        connection.execute(sa.text("UPDATE datasets SET manifest = :manifest"), given)

    def look(columns: str) -> tuple[object, ...]:
        with engine.begin() as connection:
            connection.execute(sa.text("SELECT set_config('atelier.tenant', 'ten_default', true)"))
            return tuple(connection.execute(sa.text(f"SELECT {columns} FROM datasets ORDER BY id")).one())

    assert look("image_bytes") == (5,)
    migrations.command.upgrade(config, "head")
    assert look("image_bytes, image_folders, parent_id, crops") == (5, ["ds_1"], None, None)
    migrations.command.downgrade(config, "0105")
    assert look("image_bytes") == (5,)
    engine.dispose()


def test_a_parents_deletion_leaves_its_revisions(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        session.add(Dataset(id="ds_1", tenant_id=DEFAULT_TENANT, status="ready"))
        session.flush()
        session.add(Dataset(id="ds_2", tenant_id=DEFAULT_TENANT, status="ready", parent_id="ds_1"))
        session.flush()
        session.execute(sa.delete(Dataset).where(Dataset.id == "ds_1"))
        assert session.execute(sa.select(Dataset.id, Dataset.parent_id)).all() == [("ds_2", None)]


def test_every_revision_before_the_table_of_slots_is_tried() -> None:
    scripts = ScriptDirectory.from_config(migrations.make_config("postgresql://"))
    revisions = [script.revision for script in scripts.walk_revisions("base", "0102")]
    assert sorted(revisions) == sorted(WITH_SLOTS)
