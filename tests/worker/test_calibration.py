"""A base is timed by the real program, on a real database, by a worker that has nothing else to do."""

import shutil
from pathlib import Path

import pytest
import torch
from sqlalchemy.orm import Session, sessionmaker

from core.db import models
from core.domain.model import Calibration, ModelInfo
from core.settings import Settings
from tests.fixtures.bases import write_random_base
from worker import calibration, drain
from worker.calibration import calibrate_next
from worker.engine.bases import calibration as program
from worker.engine.bases.inspection import write_card
from worker.engine.errors import BadInput
from worker.engine.memory.tracing import add_memory

pytestmark = pytest.mark.usefixtures("warm_programs")


@pytest.fixture
def settings(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(calibration, "_tried", set())
    return Settings(home=tmp_path / "home", database_url=database_url, redis_url="redis://127.0.0.1:1")


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModelInfo]:
    folder = tmp_path_factory.mktemp("models") / "random"
    info = add_memory(write_random_base(folder), folder)
    write_card(folder, info)
    return folder, info


@pytest.fixture
def registered(settings: Settings, sessions: sessionmaker[Session], traced: tuple[Path, ModelInfo]) -> ModelInfo:
    folder = settings.models_path / traced[1].id
    shutil.copytree(traced[0], folder)
    with sessions.begin() as session:
        models.upsert_model(session, traced[1], location=str(folder))
    return traced[1]


def read(sessions: sessionmaker[Session], model_id: str) -> ModelInfo:
    with sessions() as session:
        return models.read_card(models.get_model(session, model_id))


def test_a_registered_base_is_timed_once(
    settings: Settings, sessions: sessionmaker[Session], registered: ModelInfo
) -> None:
    assert registered.calibration is None
    assert calibrate_next(settings)
    timed = read(sessions, registered.id)
    assert timed.calibration is not None
    assert timed.calibration.resolution == timed.resolution
    assert min(timed.calibration.seconds_per_sample, timed.calibration.seconds_per_image) > 0
    assert timed.model_copy(update={"calibration": None}) == registered
    assert not calibrate_next(settings)


def test_a_base_that_was_replaced_meanwhile_keeps_its_card(
    sessions: sessionmaker[Session], registered: ModelInfo
) -> None:
    new = registered.model_copy(update={"sha256": "f" * 64})
    with sessions.begin() as session:
        models.upsert_model(session, new, location="/elsewhere")
        measured = Calibration(device="x", resolution=64, seconds_per_sample=1, start_seconds=1, seconds_per_image=1)
        assert not models.record_calibration(session, registered, measured)
    assert read(sessions, registered.id).calibration is None


def test_a_base_that_cannot_be_opened_is_not_tried_again(
    settings: Settings, registered: ModelInfo, caplog: pytest.LogCaptureFixture
) -> None:
    (weights,) = (settings.models_path / registered.id / "unet").glob("*.safetensors")
    weights.write_bytes(b"broken")
    assert calibrate_next(settings)
    assert f"the speed of {registered.id} was not measured" in caplog.text
    assert not calibrate_next(settings)


@pytest.mark.usefixtures("registered")
def test_a_worker_that_shuts_down_times_nothing(settings: Settings) -> None:
    drain.requested.set()
    try:
        assert not calibrate_next(settings)
    finally:
        drain.requested.clear()
    assert calibrate_next(settings)


def test_nothing_is_timed_where_the_memory_is_short(
    traced: tuple[Path, ModelInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, info = traced
    monkeypatch.setattr(program, "available_memory_bytes", lambda device: 1000)
    with pytest.raises(BadInput, match=r"it takes 0.6 GB of memory, and 0.0 GB are free"):
        program.calibrate(info, folder, torch.device("cpu"), 1)
