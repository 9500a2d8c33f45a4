"""A job with three datasets on the bundled base, whole: two concepts and class images."""

from collections import Counter
from typing import Any

import pytest

from app.jobs.report import read_report, write_report
from core.db import jobs, models
from core.db.tables import DEFAULT_TENANT, Dataset
from core.domain.concepts import ConceptSpec, join_datasets
from core.domain.dataset import DatasetManifest
from core.domain.estimate import Estimate
from core.domain.plan import TrainPlan
from core.domain.resolve import resolve
from core.domain.spec import TrainingSpec
from core.domain.states import JobStatus
from core.model_folders import BUNDLED, read_card
from tests.fixtures.house import House, house
from tests.worker.test_byte_identity import fingerprint, kill_at
from worker.engine.training.data import BatchOrder

__all__ = ["house"]

SPEC: dict[str, Any] = {
    "trigger": "zap",
    "steps": 8,
    "batch_size": 1,
    "precision": "fp32",
    "adapter": {"rank": 2},
    "loss": {"prior_preservation": {"batch_size": 1}},
    "checkpoints": {"every": 2},
    "samples": {"prompts": []},
    "evaluation": "off",
}
BALL = ConceptSpec(id="ds_ball", trigger="ball", repeats=6, weight=0.5)
THINGS = ConceptSpec(id="ds_things", prior=True)


def submit(house: House) -> str:
    """Two images of one concept, one of another, which comes six times as often, and a class image."""
    card, images = read_card(BUNDLED / "tiny"), house.manifest.images
    first, second, prior = (DatasetManifest(images=each) for each in (images[:2], images[2:3], images[3:]))
    joined, concepts = join_datasets(first, [(BALL, second), (THINGS, prior)])
    spec = TrainingSpec.model_validate(SPEC)
    plan = resolve(spec, joined, card, concepts=concepts)
    with house.sessions.begin() as session:
        models.upsert_model(session, card, location=str(BUNDLED / "tiny"))
        for concept in (BALL, THINGS):
            session.merge(Dataset(id=concept.id, tenant_id=DEFAULT_TENANT, status="ready"))
        session.flush()
        return jobs.insert_job(
            session,
            tenant_id=DEFAULT_TENANT,
            model_id=card.id,
            dataset_id="ds_1",
            spec=spec,
            plan=plan,
            estimate=Estimate(steps=plan.steps, seconds=None, peak_memory_bytes=None, adapter_bytes=1, basis=""),
            concepts=(BALL, THINGS),
        ).id


@pytest.mark.slow
def test_it_is_trained_killed_and_resumed_with_both_concepts(house: House) -> None:
    undisturbed, killed = submit(house), submit(house)
    assert house.run()
    assert house.job(undisturbed).status == JobStatus.SUCCEEDED, house.history(undisturbed)
    kill_at(house, killed, 5)
    assert house.run()
    job = house.job(killed)
    assert (job.status, job.attempt) == (JobStatus.SUCCEEDED, 2), house.history(killed)
    assert fingerprint(house, killed) == fingerprint(house, undisturbed)

    with house.sessions() as session:
        plan = TrainPlan.model_validate(jobs.get_job(session, DEFAULT_TENANT, killed).plan)
        report = b"".join(write_report(read_report(session, DEFAULT_TENANT, killed), house.storage)).decode()
    captions = [image.caption for image in plan.images]
    assert [caption.startswith("ball") for caption in captions] == [False, False, True]
    assert all("zap" in caption for caption in captions[:2])
    assert [image.weight for image in plan.images] == [1, 1, 0.5] and len(plan.class_images) == 1
    order = BatchOrder(plan)
    trained = Counter("ball" in captions[index] for number in range(plan.steps) for index in order.batch_at(number))
    assert trained == {True: 6, False: 2}
    for name in ("ds_1", BALL.id, THINGS.id, "ball", "zap"):
        assert name in report, name
