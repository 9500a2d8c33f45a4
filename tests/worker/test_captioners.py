"""Captioners are registered by the real programs, on a real database."""

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from core.db import captioners
from core.db.tables import Captioner
from core.domain.captioner import CaptionerOrder, CaptionerSource
from core.settings import Settings
from core.storage import MemoryStorage
from tests.fixtures.captioners import write_tagger
from tests.fixtures.hub_reader import serve_repositories
from worker import captioner_program
from worker.captioner_program import CaptionerRefused, LoadedCaptioner
from worker.captioners import Registration
from worker.consumer import Consumer

pytestmark = pytest.mark.usefixtures("warm_programs")

AnyConsumer = Consumer[Any, Any]


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", database_url=database_url, redis_url="redis://nowhere")


@pytest.fixture
def drain() -> threading.Event:
    return threading.Event()


@pytest.fixture
def registrar(settings: Settings, sessions: sessionmaker[Session], drain: threading.Event) -> AnyConsumer:
    return Consumer(Registration, settings, sessions, MemoryStorage(), drain)


def ask(sessions: sessionmaker[Session], captioner_id: str, location: str, **source: str) -> None:
    with sessions.begin() as session:
        captioners.request_captioner(session, captioner_id, CaptionerSource(**source), location=location)


def read(sessions: sessionmaker[Session], captioner_id: str) -> Captioner:
    with sessions() as session:
        return captioners.get_captioner(session, captioner_id)


def reason(row: Captioner) -> str:
    assert row.status == "rejected" and row.error is not None
    assert row.error["type"] == "/problems/captioner-rejected"
    return str(row.error["detail"])


def test_a_folder_is_loaded_and_tried_out(
    registrar: AnyConsumer, settings: Settings, sessions: sessionmaker[Session]
) -> None:
    write_tagger(settings.models_path / "mine" / "tags")
    ask(sessions, "tags", "mine/tags", path="mine/tags")
    assert registrar.run_next() and not registrar.run_next()
    row = read(sessions, "tags")
    info = captioners.read_info(row)
    assert (row.status, row.error, info.kind, info.num_tags) == ("ready", None, "tagger", 6)


def test_what_cannot_be_loaded_is_rejected_in_words(
    registrar: AnyConsumer, settings: Settings, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    write_tagger(settings.models_path / "tags")
    (settings.models_path / "tags" / "model.onnx").write_bytes(b"x")
    (settings.models_path / "out").symlink_to(write_tagger(tmp_path / "elsewhere"))
    for captioner_id, path in (("tags", "tags"), ("gone", "gone"), ("out", "out")):
        ask(sessions, captioner_id, path, path=path)
        assert registrar.run_next()
    assert "is not an ONNX model that can be loaded" in reason(read(sessions, "tags"))
    assert "There is no folder gone in the models directory" in reason(read(sessions, "gone"))
    assert "There is no folder out in the models directory" in reason(read(sessions, "out"))


def test_a_worker_that_ends_leaves_it_to_the_next(
    registrar: AnyConsumer,
    settings: Settings,
    sessions: sessionmaker[Session],
    drain: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_tagger(settings.models_path / "tags")
    ask(sessions, "tags", "tags", path="tags")
    run = registrar._check.run

    def drain_and_run(*given: Any) -> Any:
        drain.set()
        return run(*given)

    monkeypatch.setattr(registrar._check, "run", drain_and_run)
    assert registrar.run_next()
    row = read(sessions, "tags")
    assert (row.status, row.attempt, row.lease_until) == ("checking", 0, None)
    drain.clear()
    monkeypatch.setattr(registrar._check, "run", run)
    assert registrar.run_next() and read(sessions, "tags").status == "ready"


def test_the_last_of_several_dead_workers_rejects_it(sessions: sessionmaker[Session]) -> None:
    ask(sessions, "tags", "tags", path="tags")
    for _ in range(5):
        with sessions.begin() as session:
            assert captioners.claim_registration(session, lease_seconds=-1) is not None
        with sessions.begin() as session:
            assert len(captioners.expire_registrations(session)) == 1
    assert "5 times" in reason(read(sessions, "tags"))


# --- from the Hub -------------------------------------------------------------------------------------------------


def test_a_captioner_of_the_hub_is_fetched_and_tried_out(
    registrar: AnyConsumer, settings: Settings, sessions: sessionmaker[Session], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    good, bad = write_tagger(tmp_path / "good"), write_tagger(tmp_path / "bad", num_outputs=3)
    (good / "pytorch_model.bin").write_bytes(b"a pickle, which is not fetched")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    with serve_repositories({"some/good": good, "some/bad": bad}) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        for name in ("good", "bad", "none"):
            ask(sessions, name, f"captioners/{name}", hub_id=f"some/{name}")
            assert registrar.run_next()
        assert read(sessions, "good").status == "ready", read(sessions, "good").error
        assert "scores 3 tags" in reason(read(sessions, "bad"))
        assert "The Hub has no repository some/none" in reason(read(sessions, "none"))
        made = settings.models_path / "captioners"
        assert sorted(path.name for path in made.iterdir()) == ["good"]
        files = sorted(path.name for path in (made / "good").iterdir())
        assert files == ["README.md", "model.onnx", "selected_tags.csv"]
        sha256 = captioners.read_info(read(sessions, "good")).sha256
        ask(sessions, "good", "captioners/good", hub_id="some/good")
        assert registrar.run_next(), "its own folder may be replaced"
        assert captioners.read_info(read(sessions, "good")).sha256 == sha256
        write_tagger(made / "own")
        ask(sessions, "own", "captioners/own", hub_id="some/good")
        assert registrar.run_next() and "has a folder captioners/own already" in reason(read(sessions, "own"))


def test_without_a_network_it_is_said(
    registrar: AnyConsumer, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ask(sessions, "some", "captioners/some", hub_id="some/captioner")
    assert registrar.run_next()
    assert "HF_HUB_OFFLINE is set" in reason(read(sessions, "some"))


# --- the program ------------------------------------------------------------------------------------------------------


def test_the_program_gets_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "ATELIER_API_KEY"):
        monkeypatch.setenv(name, "hush")
    order = CaptionerOrder(folder=write_tagger(tmp_path / "tags"), device="cpu", cpu_threads=1)
    with LoadedCaptioner(order, lambda: None) as captioner:
        assert b"hush" not in Path(f"/proc/{captioner.pid}/environ").read_bytes()


def test_a_program_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioner_program, "LOAD_SECONDS", 0.0)
    monkeypatch.setattr("worker.dialogue.POLL_SECONDS", 0.01)
    order = CaptionerOrder(folder=write_tagger(tmp_path / "tags"), device="cpu", cpu_threads=1)
    with pytest.raises(CaptionerRefused, match="it took too long"):
        LoadedCaptioner(order, lambda: None)
