"""Twenty jobs of as many kinds, each killed three times with -9 at steps that nobody chose, against undisturbed runs.

The trainer is a real process under a real worker; what is compared is what clients see and what a resume reads: both
adapter files, the last checkpoint (parameters, optimizer, averages, curve) and every sample picture.
"""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, update

from core.db import jobs, models
from core.db.tables import Job
from core.domain.states import JobStatus
from tests.fixtures.house import House, house
from worker.device.slot import open_slot
from worker.device.wire import RuntimeChosen
from worker.engine.memory.tracing import add_memory

__all__ = ["house"]

KILLS = 3
QUICK = {"bf16", "prodigy"}
"""Those that every run of the continuous integration takes; `make chaos` takes all."""
BASIC: dict[str, Any] = {
    "steps": 150,
    "batch_size": 2,
    "checkpoints": {"every": 10},
    "samples": {"prompts": ["zap left"], "every": 75, "num_steps": 2},
    "evaluation": "off",
}
TEXT = {"text_encoder": {"train": True}}
KINDS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "locon": {"adapter": {"type": "locon"}},
    "dora": {"adapter": {"type": "dora"}},
    "all layers": {"adapter": {"targets": "all", "rank": 8, "alpha": 3}},
    "rslora, dropout": {"adapter": {"rslora": True, "dropout": 0.2}},
    "moving average": {"adapter": {"ema": 0.95}},
    "text encoder": TEXT,
    "adafactor": {"optimizer": {"name": "adafactor"}},
    "prodigy": {"optimizer": {"name": "prodigy"}},
    "lion": {"optimizer": {"name": "lion"}},
    "betas, decay": {"optimizer": {"betas": [0.8, 0.95], "weight_decay": 0.1, "learning_rate": 1e-3}},
    "cosine": {"schedule": {"name": "cosine", "warmup_steps": 20}},
    "polynomial": {"schedule": {"name": "polynomial"}},
    "accumulation": {"gradient_accumulation": 3},
    "huber, noise offset": {"loss": {"type": "huber", "noise_offset": 0.1}},
    "min-SNR": {"loss": {"min_snr_gamma": 5}},
    "prior preservation": {"loss": {"prior_preservation": {"class_prompt": "a thing", "num_images": 4}}},
    "captions": {"captions": {"dropout": 0.3, "shuffle": True, "keep_tokens": 1}, "flip": True},
    "held out, average, text encoder, bf16": {
        **TEXT,
        "precision": "bf16",
        "adapter": {"ema": 0.9},
        "validation": {"fraction": 0.25, "every": 25},
        "evaluation": "on",
    },
}


def mark(kind: str) -> object:
    return pytest.param(kind, marks=pytest.mark.slow if kind in QUICK else pytest.mark.long)


@pytest.fixture(autouse=True)
def _nothing_left(house: House) -> Iterator[None]:
    """A kind that fails leaves its job in the queue, where the next would find it."""
    yield
    left = Job.status.in_([JobStatus.QUEUED, JobStatus.PAUSED])
    with house.sessions.begin() as session:
        session.execute(update(Job).where(left).values(status=JobStatus.CANCELED, finished_at=func.now()))


@pytest.mark.parametrize("kind", [mark(kind) for kind in KINDS])
def test_three_kills_leave_no_trace(house: House, kind: str) -> None:
    spec = {**BASIC, **KINDS[kind]}
    undisturbed = house.submit(**spec)
    assert house.run()
    assert house.job(undisturbed).status == JobStatus.SUCCEEDED, house.history(undisturbed)
    killed = house.submit(**spec)
    for step in sorted(random.Random(kind).sample(range(5, spec["steps"] // 2), KILLS)):
        kill_at(house, killed, step)
    assert house.run()
    job = house.job(killed)
    assert job.status == JobStatus.SUCCEEDED, house.history(killed)
    assert job.attempt == KILLS + 1
    assert fingerprint(house, killed) == fingerprint(house, undisturbed)


def kill_at(house: House, job_id: str, step: int) -> None:
    """Failures are forgotten, as a new checkpoint makes them."""
    with house.running(kill_at=step):
        pass
    job = house.job(job_id)
    assert job.status == JobStatus.QUEUED, house.history(job_id)
    house.due_now(job_id)
    with house.sessions.begin() as session:
        session.execute(update(Job).where(Job.id == job_id).values(failures=0))


def fingerprint(house: House, job_id: str) -> dict[str, str]:
    with house.sessions() as session:
        checkpoint = jobs.list_checkpoints(session, job_id)[-1]
        samples = jobs.list_samples(session, job_id)
    hashes = {**house.adapters(job_id), "checkpoint": checkpoint.sha256, "last step": str(checkpoint.step)}
    hashes |= {f"grid {row.step}": row.grid["sha256"] for row in samples}
    return hashes | {f"sample {row.step}": row.images[0]["sha256"] for row in samples}


@pytest.mark.slow
@pytest.mark.parametrize("is_traced", [False, True])
def test_a_job_after_another_kind_has_the_bytes_of_a_fresh_trainer(house: House, is_traced: bool) -> None:
    """One warm trainer runs bf16, fp32, bf16 in turn; a cold one runs each alone. Where the base's memory was traced,
    the warm one holds both precisions at a time."""
    if is_traced:
        trace_memory(house)
    quick = {**BASIC, "steps": 20}
    open_slot(house.settings).drop_trainer()
    runtimes: list[RuntimeChosen] = []
    trainer = open_slot(house.settings).warm_trainer()
    trainer.on_report = lambda report: runtimes.append(report) if isinstance(report, RuntimeChosen) else None
    warm = [house.submit(**{**quick, "precision": precision}) for precision in ("bf16", "fp32", "bf16")]
    for _ in warm:
        assert house.run()
    assert [report.warm for report in runtimes] == [False, False, is_traced]
    for job_id, precision in zip(warm, ("bf16", "fp32", "bf16"), strict=True):
        open_slot(house.settings).drop_trainer()
        cold = house.submit(**{**quick, "precision": precision})
        assert house.run()
        assert fingerprint(house, cold) == fingerprint(house, job_id)


def trace_memory(house: House) -> None:
    folder = house.settings.models_path / house.info.id
    with house.sessions.begin() as session:
        row = models.get_model(session, house.info.id)
        row.info = add_memory(models.read_card(row), folder).model_dump(mode="json")
