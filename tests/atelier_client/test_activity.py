"""Everything's states, live, through an outage."""

from collections.abc import Iterator

import pytest

from atelier_client import ApiError, AtelierClient
from atelier_client.activity import Activity
from atelier_client.errors import ConnectionFailed
from atelier_client.waiting import make_wait
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ScriptedJob


def wait_for_status(changes: Iterator[Activity | None], job: ScriptedJob, status: str | None) -> Activity:
    return next(change for change in changes if change and change.id == job.id and change.status == status)


def test_changes_are_told_as_they_happen(client: AtelierClient, running_api: RunningApi) -> None:
    changes = client.watch_activity()
    assert next(changes) is None
    job = ScriptedJob(running_api)
    assert wait_for_status(changes, job, "queued").queue_position == 1
    job.start()
    assert wait_for_status(changes, job, "running").resource == "job"
    listed = {one.id: one for one in client.list_activity()}
    assert listed[job.id].status == "running"
    assert (listed["scripted"].resource, listed["scripted"].status) == ("model", "ready")


def test_an_outage_ends_in_another_beginning(own_api: RunningApi) -> None:
    with AtelierClient(own_api.url, own_api.api_key) as client:
        changes = client.watch_activity()
        assert next(changes) is None
        own_api.kill()
        job = ScriptedJob(own_api)
        own_api.start()
        assert next(changes) is None
        assert {one.id for one in client.list_activity()} >= {job.id}


def test_a_key_that_may_not_read_is_refused(running_api: RunningApi, client: AtelierClient) -> None:
    key = client.create_key("writer", scopes=["jobs"])
    with AtelierClient(running_api.url, key.secret) as writer, pytest.raises(ApiError, match="scope read"):
        next(writer.watch_activity())


def test_patience_begins_with_the_first_failure(client: AtelierClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after a stream that had nothing to say for an hour."""
    now, calls = [0.0], iter(range(9))

    def stream(_: AtelierClient) -> Iterator[None]:
        if next(calls) == 0:
            yield None
            now[0] += 3600
        raise ConnectionFailed("gone")

    monkeypatch.setattr(AtelierClient, "_stream_activity", stream)
    monkeypatch.setattr("atelier_client.watching.time.monotonic", lambda: now[0])
    monkeypatch.setattr("atelier_client.watching.time.sleep", lambda seconds: now.__setitem__(0, now[0] + 50))
    changes = client.watch_activity()
    assert next(changes) is None
    with pytest.raises(ConnectionFailed):
        next(changes)
    assert next(calls) == 4, "tried again for two minutes"


def test_no_wait_at_the_service_is_longer_than_the_timeout() -> None:
    assert make_wait(30, None)() == 30
    assert 4 < make_wait(30, 5)() <= 5
    assert make_wait(30, 0)() == 0
