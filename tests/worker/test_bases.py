"""Bases are prepared by the real program, on a real database."""

import logging
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import save_file
from sqlalchemy.orm import Session, sessionmaker

from core.db import models as db
from core.db.tables import Model
from core.domain.model import FAMILY_DEFAULTS, ModelInfo
from core.domain.registration import ModelSource, RegistrationResult
from core.model_folders import CARD, find_model_folder
from core.settings import Settings
from tests.fixtures.bases import make_random_pipeline, write_random_base
from tests.fixtures.hub_reader import serve_repositories
from tests.fixtures.single_files import name_tensors
from worker import bases as service
from worker import drain, program

pytestmark = pytest.mark.usefixtures("warm_programs")


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", database_url=database_url, redis_url="redis://nowhere")


INFO = ModelInfo(
    id="some", family="sd1", resolution=64, resolution_step=8, sha256="0" * 64, num_parameters=1, adapter_dims={},
    defaults=FAMILY_DEFAULTS["sd1"],
)  # fmt: skip


def ask(sessions: sessionmaker[Session], model_id: str, **source: object) -> None:
    with sessions.begin() as session:
        db.request_model(session, model_id, ModelSource.model_validate(source))


def read(sessions: sessionmaker[Session], model_id: str) -> Model:
    with sessions() as session:
        return db.get_model(session, model_id)


def test_a_folder_gets_its_card(settings: Settings, sessions: sessionmaker[Session]) -> None:
    folder = settings.models_path / "some"
    write_random_base(folder, family="sdxl")
    (folder / CARD).unlink()
    ask(sessions, "xl", path="some", description="Noise.")
    assert service.register_next(settings)
    row = read(sessions, "xl")
    assert (row.status, row.location, row.error) == ("ready", str(folder), None)
    info = db.read_card(row)
    assert (info.id, info.family, info.resolution, info.description) == ("xl", "sdxl", 64, "Noise.")
    assert info.memory is not None
    assert ModelInfo.model_validate_json((folder / CARD).read_text()) == info
    assert find_model_folder(settings, "xl") == folder
    assert not service.register_next(settings)


def test_a_file_of_the_wrong_kind_is_rejected_with_what_it_is(
    settings: Settings, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    settings.models_path.mkdir(parents=True)
    pipeline = make_random_pipeline(tmp_path / "words", "epsilon", "sd1")
    save_file(name_tensors(pipeline, "sd1"), settings.models_path / "small.safetensors")
    ask(sessions, "small", path="small.safetensors")
    assert service.register_next(settings)
    row = read(sessions, "small")
    assert row.status == "rejected" and row.error is not None
    assert "in other sizes" in row.error["detail"]
    assert row.error["type"] == "/problems/model-rejected"
    assert not service.register_next(settings)


def test_a_worker_that_ends_leaves_the_model_to_the_next(
    settings: Settings, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_random_base(settings.models_path / "some")
    ask(sessions, "some", path="some")
    monkeypatch.setattr(drain, "requested", threading.Event())
    monkeypatch.setattr(program, "POLL_SECONDS", 0.02)  # sooner than it can be ready
    threading.Timer(program.POLL_SECONDS / 2, drain.request_drain).start()
    assert not service.register_next(settings)
    assert read(sessions, "some").status == "checking"
    monkeypatch.setattr(drain, "requested", threading.Event())
    assert service.register_next(settings)
    assert read(sessions, "some").status == "ready"


def test_a_folder_where_no_worker_looks_is_rejected(settings: Settings, sessions: sessionmaker[Session]) -> None:
    folder = settings.models_path / "sub" / "some"
    write_random_base(folder)
    (folder / CARD).unlink()
    ask(sessions, "some", path="sub/some")
    assert service.register_next(settings)
    row = read(sessions, "some")
    assert row.status == "rejected" and row.error is not None
    assert "no worker would find it there" in row.error["detail"]
    assert not (folder / CARD).exists()


@pytest.mark.parametrize(
    "outcome", [RegistrationResult(info=INFO, folder=Path("/made")), RegistrationResult(refusal="It is a teapot.")]
)
def test_a_registration_that_was_overtaken_is_not_said_to_be_ready(
    settings: Settings, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, outcome: RegistrationResult,
) -> None:  # fmt: skip
    def prepare(*_: object) -> RegistrationResult:
        ask(sessions, "some", hub_id="another/base")
        return outcome

    monkeypatch.setattr(service, "prepare", prepare)
    ask(sessions, "some", path="some")
    with caplog.at_level(logging.INFO, "atelier.models"):
        assert service.register_next(settings)
    row = read(sessions, "some")
    assert (row.status, row.location) == ("checking", "another/base")
    assert "the model some was registered again while it was prepared" in caplog.text
    assert "the model some is" not in caplog.text.replace("the model some is prepared from", "")


def test_a_program_that_dies_rejects_the_model(
    settings: Settings, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What it imports first is killed here, as by a system that runs out of memory: it ends and says nothing."""
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "__init__.py").write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setattr(program, "ROOT", tmp_path)
    ask(sessions, "some", path="some")
    assert service.register_next(settings)
    error = read(sessions, "some").error
    assert error is not None and "ended with -9" in error["detail"]


# --- the Hub ---


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of ``owner/name``."""
    folder = tmp_path / "repository"
    write_random_base(folder, family="sd2")
    shutil.rmtree(folder / "words")
    (folder / CARD).unlink()
    with serve_repositories({"owner/name": folder}) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield folder


@pytest.mark.slow
def test_a_repository_of_the_hub_is_fetched(
    settings: Settings, sessions: sessionmaker[Session], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(sessions, "mine", hub_id="owner/name")
    assert service.register_next(settings)
    row = read(sessions, "mine")
    assert row.status == "ready", row.error
    info = db.read_card(row)
    assert (info.family, info.description) == ("sd2", "owner/name of the Hub")
    folder = settings.models_path / "mine"
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (folder / weights).read_bytes() == (repository / weights).read_bytes()
    assert [path.name for path in settings.models_path.iterdir()] == ["mine"]

    ask(sessions, "other", hub_id="owner/none")
    assert service.register_next(settings)
    error = read(sessions, "other").error
    assert error is not None and "The Hub has no repository owner/none" in error["detail"]
    assert "Error" not in error["detail"] and "local_files_only" not in error["detail"]

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ask(sessions, "late", hub_id="owner/name")
    assert service.register_next(settings)
    error = read(sessions, "late").error
    assert error is not None and "HF_HUB_OFFLINE is set" in error["detail"]
    assert [path.name for path in settings.models_path.iterdir()] == ["mine"]
