"""What a job's files are called in the folder that they are downloaded to."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from atelier_client.models import Job
from cli.training import choose_stem

BYTES = b"an adapter"


def make_job(data: bytes = BYTES) -> Job:
    adapter = {"kohya": {"sha256": hashlib.sha256(data).hexdigest()}}
    return Job(
        id="job_01m8n0j73vzza53v30crvc654q", status="succeeded", model="tiny", dataset="ds_1",
        created_at=datetime.now(UTC), spec={"name": "a blip"}, result={"adapter": adapter},
    )  # fmt: skip


def test_files_have_the_jobs_name(tmp_path: Path) -> None:
    assert choose_stem(make_job(), tmp_path) == "a-blip"


def test_the_same_adapter_is_written_over_itself(tmp_path: Path) -> None:
    (tmp_path / "a-blip.safetensors").write_bytes(BYTES)
    assert choose_stem(make_job(), tmp_path) == "a-blip"


def test_another_jobs_adapter_of_that_name_stays(tmp_path: Path) -> None:
    (tmp_path / "a-blip.safetensors").write_bytes(b"another")
    assert choose_stem(make_job(), tmp_path) == "a-blip-vc654q"
