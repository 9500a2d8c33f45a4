"""A file appears whole and checked, or not at all."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from atelier_client import ApiError, AtelierClient, ConnectionFailed, DownloadDamaged, InputError
from tests.atelier_client.faults import FaultyTransport, change_body
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ADAPTER, ScriptedJob


@pytest.fixture
def finished(running_api: RunningApi) -> ScriptedJob:
    job = ScriptedJob(running_api)
    job.run_to_the_end()
    return job


def test_both_formats_and_the_grid_arrive(client: AtelierClient, finished: ScriptedJob, tmp_path: Path) -> None:
    kohya, diffusers, grid = (tmp_path / "new" / name for name in ("a.safetensors", "b.safetensors", "grid.png"))
    assert client.download_adapter(finished.id, kohya) == hashlib.sha256(ADAPTER).hexdigest()
    client.download_adapter(finished.id, diffusers, "diffusers")
    client.download_grid(finished.id, 100, grid)
    assert kohya.read_bytes() == ADAPTER
    assert diffusers.read_bytes() == ADAPTER[::-1]
    assert grid.read_bytes().startswith(b"\x89PNG")
    assert len(list(kohya.parent.iterdir())) == 3


def test_before_it_exists_there_is_no_adapter_and_no_file(
    client: AtelierClient, running_api: RunningApi, tmp_path: Path
) -> None:
    with pytest.raises(ApiError) as caught:
        client.download_adapter(ScriptedJob(running_api).id, tmp_path / "a.safetensors")
    assert caught.value.problem.slug == "wrong-state"
    assert list(tmp_path.iterdir()) == []


def flip_last_byte(blocks: Iterator[bytes]) -> Iterator[bytes]:
    whole = b"".join(blocks)
    yield whole[:-1] + bytes([whole[-1] ^ 1])


def break_off(blocks: Iterator[bytes]) -> Iterator[bytes]:
    yield next(blocks)[:1000]
    raise httpx.ReadError("the line broke")


@pytest.mark.parametrize(("fault", "error"), [(flip_last_byte, DownloadDamaged), (break_off, ConnectionFailed)])
def test_a_damaged_file_is_noticed_and_what_was_there_before_stays(
    finished: ScriptedJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: object, error: type[Exception]
) -> None:
    monkeypatch.setattr("atelier_client.waiting.RETRY_PAUSES_SECONDS", (0.0, 0.0))
    assert callable(fault)
    target = tmp_path / "a.safetensors"
    target.write_bytes(b"older")
    transport = FaultyTransport(lambda _, response: change_body(response, fault))
    with AtelierClient(finished.api.url, finished.api.api_key, transport=transport) as client, pytest.raises(error):
        client.download_adapter(finished.id, target)
    assert target.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [target]


def test_a_passing_fault_is_tried_again(finished: ScriptedJob, tmp_path: Path) -> None:
    faults = [flip_last_byte, break_off]

    def spoil(_: httpx.Request, response: httpx.Response) -> httpx.Response:
        return change_body(response, faults.pop()) if faults else response

    with AtelierClient(finished.api.url, finished.api.api_key, transport=FaultyTransport(spoil)) as client:
        client.download_adapter(finished.id, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == ADAPTER


def test_a_target_that_cannot_be_written_is_an_error(
    client: AtelierClient, finished: ScriptedJob, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        client.download_adapter(finished.id, tmp_path / "file" / "a.safetensors")


def test_the_umask_decides_who_may_read_it(client: AtelierClient, finished: ScriptedJob, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        client.download_adapter(finished.id, tmp_path / "a.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o644
