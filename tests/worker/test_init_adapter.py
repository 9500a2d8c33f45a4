"""A job that starts from an adapter: its file is fetched, and its update is the new adapter's first."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from sqlalchemy.orm import Session

from core.db import adapters, jobs
from core.db.tables import DEFAULT_TENANT, Adapter
from core.domain.estimate import Estimate
from core.domain.init_adapter import InitAdapterSource
from core.domain.plan import InitAdapter, TrainPlan
from core.domain.resolve import resolve
from core.domain.spec import TrainingSpec
from core.domain.states import JobStatus
from tests.fixtures.house import House, house
from worker.jobs.fetching import InputDamaged, fetch_files

__all__ = ["house"]

SPEC = {"trigger": "zap", "precision": "fp32", "steps": 3, "samples": {"prompts": []}, "evaluation": "off"}


def finished_adapter(house: House, job_id: str) -> Adapter:
    job = house.job(job_id)
    assert job.status == JobStatus.SUCCEEDED and job.result is not None, job.error
    with house.sessions() as session:
        return adapters.get_adapter(session, DEFAULT_TENANT, job.result["adapter_id"])


def losses_of(house: House, job_id: str) -> tuple[float, float]:
    """Held-out: the base's, the adapter's."""
    result = house.job(job_id).result
    assert result is not None
    return result["metrics"]["base_validation_loss"], result["metrics"]["validation_loss"]


def plan_from(house: House, adapter: Adapter, **spec: object) -> tuple[TrainingSpec, TrainPlan]:
    file = adapter.files["kohya"]
    parsed = TrainingSpec.model_validate({**SPEC, "init_adapter": adapter.id, **spec})
    init = InitAdapter(id=adapter.id, key=file["key"], sha256=file["sha256"])
    source = InitAdapterSource(init)
    return parsed, resolve(parsed, house.manifest, house.info, init=source)


def submit(session: Session, house: House, spec: TrainingSpec, plan: TrainPlan) -> str:
    estimate = Estimate(steps=plan.steps, seconds=None, peak_memory_bytes=None, adapter_bytes=1, basis="")
    return jobs.insert_job(
        session, tenant_id=DEFAULT_TENANT, model_id=house.info.id, dataset_id="ds_1", spec=spec, plan=plan,
        estimate=estimate,
    ).id  # fmt: skip


def test_a_job_goes_on_from_the_adapter_of_another(house: House, tmp_path: Path) -> None:
    """At a rate of next to nothing the adapter comes out as it went in."""
    held_out = {"validation": {"fraction": 0.25}}
    first_id = house.submit(**{**SPEC, **held_out, "optimizer": {"learning_rate": 0.01}})
    assert house.run()
    first = finished_adapter(house, first_id)
    spec, plan = plan_from(house, first, steps=1, optimizer={"learning_rate": 1e-12}, **held_out)
    with house.sessions.begin() as session:
        second_id = submit(session, house, spec, plan)
    assert house.run()
    second = finished_adapter(house, second_id)
    before, after = (load(house.storage.read(row.files["kohya"]["key"])) for row in (first, second))
    ups = [key for key in before if key.endswith("lora_up.weight")]
    assert ups and before.keys() == after.keys()
    assert any(before[key].abs().max() > 1e-3 for key in ups), "a fresh adapter's would all be zero"
    assert all(torch.allclose(before[key].float(), after[key].float(), atol=1e-4) for key in before)

    base, own = zip(*(losses_of(house, job_id) for job_id in (first_id, second_id)), strict=True)
    assert base[0] == base[1], "both get the same prediction of the base without an adapter"
    assert own[1] == pytest.approx(own[0], rel=1e-3) and own[1] != base[1]

    files = fetch_files(house.storage, plan, tmp_path, lambda: None)
    path = files[first.files["kohya"]["sha256"]]
    assert path.read_bytes() == house.storage.read(first.files["kohya"]["key"])
    path.write_bytes(b"cut")
    assert fetch_files(house.storage, plan, tmp_path, lambda: None)[first.files["kohya"]["sha256"]].stat().st_size > 3

    house.storage.put(first.files["kohya"]["key"], b"another file")
    path.unlink()
    with pytest.raises(InputDamaged, match="was damaged"):
        fetch_files(house.storage, plan, tmp_path, lambda: None)
