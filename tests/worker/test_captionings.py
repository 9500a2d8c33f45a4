"""Datasets are captioned by real programs with tiny captioners, over a real database and store."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import delete, func, select, update

from core.db import captioners, captioning_claims, captionings, datasets
from core.db.tables import DEFAULT_TENANT, Captioner, Captioning, Dataset, ImageCaption, Tenant, Worker
from core.db.workers import list_workers
from core.domain.captioner import CaptionerSource
from core.domain.captioning import CaptioningSpec, plan_captioning
from core.domain.dataset import DatasetManifest
from core.domain.errors import InvalidRequest
from tests.fixtures.captioners import write_blip, write_tagger
from tests.fixtures.house import House, house
from tests.fixtures.servers import wait_for
from tests.worker.conftest import Running
from tests.worker.test_train_worker import configured, is_over, ring, start_worker
from worker import captionings as service
from worker.captioner_program import PROGRAM, LoadedCaptioner
from worker.captioners import register_next_captioner
from worker.captionings import caption_next

__all__ = ["configured", "house"]


@pytest.fixture(scope="module")
def home(house: House) -> House:
    write_blip(house.settings.models_path / "captioners" / "blip")
    write_tagger(house.settings.models_path / "captioners" / "tags")
    for name in ("blip", "tags"):
        register(house, name)
        assert register_next_captioner(house.settings)
        assert find_captioner(house, name).status == "ready", find_captioner(house, name).error
    manifest = house.manifest.model_copy(
        update={
            "images": tuple(
                image.model_copy(update={"caption": "a known one" if index == 1 else None})
                for index, image in enumerate(house.manifest.images)
            )
        }
    )
    with house.sessions.begin() as session:
        row = datasets.get_dataset(session, DEFAULT_TENANT, "ds_1")
        row.manifest, row.name = manifest.model_dump(mode="json"), "four"
    house.manifest = manifest
    return house


@pytest.fixture(autouse=True)
def clean(home: House) -> Iterator[None]:
    yield
    with home.sessions.begin() as session:
        for table in (Captioning, ImageCaption):
            session.execute(delete(table))


def register(house: House, name: str, captioner_id: str | None = None) -> None:
    with house.sessions.begin() as session:
        source = CaptionerSource(path=f"captioners/{name}")
        captioners.request_captioner(session, captioner_id or name, source, location=f"captioners/{name}")


def find_captioner(house: House, name: str) -> Captioner:
    with house.sessions() as session:
        return captioners.get_captioner(session, name)


def queue(
    house: House, captioner: str = "tags", tenant: str = DEFAULT_TENANT, dataset: str = "ds_1", **how: Any
) -> str:
    spec = CaptioningSpec.model_validate({"captioner": captioner, **how})
    info = captioners.read_info(find_captioner(house, captioner))
    plan = plan_captioning(spec, info, house.manifest, None)
    num_images = len(plan.choose_images(house.manifest))
    with house.sessions.begin() as session:
        return captionings.insert_captioning(
            session, tenant, dataset, spec.model_dump(mode="json"), plan, num_images=num_images
        ).id


def read(house: House, captioning_id: str) -> Captioning:
    with house.sessions() as session:
        return session.execute(select(Captioning).where(Captioning.id == captioning_id)).scalar_one()


def revision_of(house: House, captioning_id: str) -> Dataset:
    row = read(house, captioning_id)
    assert row.status == "succeeded" and row.revision_id is not None, row.error
    with house.sessions() as session:
        return datasets.get_dataset(session, row.tenant_id, row.revision_id, whole=True)


def captions_of(dataset: Dataset) -> list[str | None]:
    return [image.caption for image in DatasetManifest.model_validate(dataset.manifest).images]


def caption(house: House, captioner: str = "tags", **how: Any) -> list[str | None]:
    captioning_id = queue(house, captioner, **how)
    assert caption_next(house.settings)
    return captions_of(revision_of(house, captioning_id))


def fail(house: House, captioning_id: str) -> str:
    assert caption_next(house.settings)
    row = read(house, captioning_id)
    assert row.status == "failed" and row.error is not None and row.ended_at is not None
    return str(row.error["detail"])


def test_a_captioning_ends_in_a_revision_that_shares_the_images(home: House) -> None:
    captioning_id = queue(home, "blip", prefix="toy, ", suffix=" here")
    assert caption_next(home.settings) and not caption_next(home.settings)
    row, revision = read(home, captioning_id), revision_of(home, captioning_id)
    assert (row.num_images, row.num_done, row.num_reused) == (4, 4, 0)
    assert (revision.parent_id, revision.status, revision.name) == ("ds_1", "ready", "four")
    captions = captions_of(revision)
    assert all(each and each.startswith("toy, ") and each.endswith(" here") for each in captions), captions
    assert all(len(each or "") > len("toy,  here") for each in captions), captions
    made = DatasetManifest.model_validate(revision.manifest)
    assert [image.key for image in made.images] == [image.key for image in home.manifest.images]
    assert revision.manifest_sha256 == made.content_hash()
    assert revision.report is not None and revision.report["notes"] == ["Revision of ds_1: 4 captions by blip."]


def test_only_missing_leaves_the_others(home: House) -> None:
    captions = caption(home, "blip", only_missing=True)
    assert captions[1] == "a known one" and all(captions) and len(set(captions)) > 1


def test_a_prompt_begins_a_blips_caption(home: House) -> None:
    assert all(each and each.startswith("a photo of ") for each in caption(home, "blip", prompt="a photo of"))


def test_a_threshold_decides_the_tags(home: House) -> None:
    few, many = caption(home, threshold=0.9), caption(home, threshold=0.05)
    assert sum(len(each or "") for each in few) < sum(len(each or "") for each in many)


def test_captions_are_not_made_twice(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    first = queue(home, "blip", only_missing=True)
    assert caption_next(home.settings)
    asked: list[str] = []
    original = LoadedCaptioner.caption

    def count(self: LoadedCaptioner, path: Path, name: str) -> str:
        asked.append(name)
        return original(self, path, name)

    monkeypatch.setattr(LoadedCaptioner, "caption", count)
    again = queue(home, "blip", suffix=" again")
    assert caption_next(home.settings)
    assert (read(home, first).num_reused, read(home, again).num_reused, len(asked)) == (0, 3, 1)
    assert captions_of(revision_of(home, again))[0] == f"{captions_of(revision_of(home, first))[0]} again"
    other = queue(home, "blip", prompt="a photo of")
    assert caption_next(home.settings) and len(asked) == 5 and read(home, other).num_reused == 0
    all_known = queue(home, "blip", prompt="a photo of", prefix="x ")
    monkeypatch.setattr(service, "LoadedCaptioner", None)  # nothing is loaded for nothing
    assert caption_next(home.settings) and read(home, all_known).num_reused == 4


def test_whatever_a_model_writes_becomes_one_line(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = iter(["a\x00b\ud800\n\x1b[31mc", "x" * 5000, "", " \u200b\t"])
    monkeypatch.setattr(LoadedCaptioner, "caption", lambda *_: next(texts))
    captions = caption(home, prefix="p ")
    assert captions == ["p a b [31mc", "p " + "x" * 1998, None, None]


def test_captions_are_not_another_tenants(home: House) -> None:
    with home.sessions.begin() as session:
        session.merge(Tenant(id="ten_other", name="other"))
        session.flush()
        session.merge(
            Dataset(id="ds_2", tenant_id="ten_other", status="ready", manifest=home.manifest.model_dump(mode="json"))
        )
    mine, theirs = queue(home), queue(home, tenant="ten_other", dataset="ds_2")
    assert caption_next(home.settings) and caption_next(home.settings)
    assert [read(home, each).num_reused for each in (mine, theirs)] == [0, 0]
    assert revision_of(home, theirs).tenant_id == "ten_other"


def test_captions_that_change_nothing_make_no_revision(home: House) -> None:
    first = queue(home)
    assert caption_next(home.settings)
    done = revision_of(home, first)
    with home.sessions.begin() as session:
        session.merge(Dataset(id="ds_3", tenant_id=DEFAULT_TENANT, status="ready", manifest=done.manifest))
    again = queue(home, dataset="ds_3")
    assert caption_next(home.settings)
    assert read(home, again).revision_id == "ds_3"


def test_a_cancel_ends_the_program(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = slow_down(monkeypatch)
    captioning_id = queue(home, "blip")
    worker = threading.Thread(target=caption_next, args=(home.settings,))
    worker.start()
    wait_for(lambda: bool(pids), 60)
    with home.sessions.begin() as session:
        captionings.cancel_captioning(session, DEFAULT_TENANT, captioning_id)
    worker.join(30)
    assert not worker.is_alive() and not Path(f"/proc/{pids[0]}").exists()
    row = read(home, captioning_id)
    assert (row.status, row.revision_id) == ("canceled", None)


def slow_down(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stops the program at the second image, and returns the list that its pid will be in."""
    pids: list[int] = []
    original, seen = LoadedCaptioner.caption, [0]

    def stop(self: LoadedCaptioner, path: Path, name: str) -> str:
        seen[0] += 1
        if seen[0] == 2:
            os.kill(self.pid, signal.SIGSTOP)
            pids.append(self.pid)
        return original(self, path, name)

    monkeypatch.setattr(LoadedCaptioner, "caption", stop)
    return pids


def test_a_program_that_dies_fails_the_captioning_and_keeps_its_captions(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = slow_down(monkeypatch)
    captioning_id = queue(home, "blip")
    worker = threading.Thread(target=caption_next, args=(home.settings,))
    worker.start()
    wait_for(lambda: bool(pids), 60)
    os.kill(pids[0], signal.SIGKILL)
    worker.join(30)
    row = read(home, captioning_id)
    assert row.status == "failed" and row.error is not None and "ended with -9" in row.error["detail"]
    again = queue(home, "blip")
    assert caption_next(home.settings) and read(home, again).num_reused == 1


def test_a_killed_workers_captioning_continues_where_it_was(home: House) -> None:
    """As after kill -9: a claim whose lease runs out, with one caption saved."""
    captioning_id = queue(home)
    plan_key: dict[str, str] = {}
    with home.sessions.begin() as session:
        claim = captioning_claims.claim_captioning(session, lease_seconds=-1)
        assert claim is not None and claim.id == captioning_id
        plan = service.CaptioningPlan.model_validate(claim.plan)
        plan_key[plan.key_of(home.manifest.images[0].sha256)] = "from before"
        captioning_claims.keep_words(session, claim, plan_key, num_done=1)
    with home.sessions.begin() as session:
        assert [row.id for row in captioning_claims.expire_captionings(session)] == [captioning_id]
    assert caption_next(home.settings)
    row = read(home, captioning_id)
    assert (row.attempt, row.num_done, row.num_reused) == (2, 4, 0)
    assert captions_of(revision_of(home, captioning_id))[0] == "from before"
    with home.sessions.begin() as session:
        assert not captioning_claims.fail(session, claim, service.TerminationReason.BAD_INPUT, "too late")


@pytest.mark.usefixtures("configured")
def test_a_real_worker_that_is_killed_is_followed_by_another(home: House, tmp_path: Path) -> None:
    """kill -9 for the worker's child while the captioner's program works: both are gone, and the next one finishes."""
    captioning_id = queue(home, "blip", prompt="a photo of")
    worker = start_worker(home, tmp_path / "first.log")
    try:
        ring(home)
        wait_for(lambda: bool(find_programs(worker)), 60)
        [program] = find_programs(worker)
        os.kill(program.ppid(), signal.SIGKILL)
        wait_for(lambda: is_over(program), 20)
        assert read(home, captioning_id).lease_until is not None
        with home.sessions.begin() as session:
            session.execute(update(Captioning).values(lease_until=Captioning.created_at))
        with home.sessions.begin() as session:
            assert [row.id for row in captioning_claims.expire_captionings(session)] == [captioning_id]
        ring(home)
        wait_for(lambda: read(home, captioning_id).status == "succeeded", 90)
    finally:
        worker.kill()
    row = read(home, captioning_id)
    assert (row.attempt, row.num_done) == (2, 4)
    assert all(each and each.startswith("a photo of ") for each in captions_of(revision_of(home, captioning_id)))


@pytest.mark.usefixtures("configured")
def test_a_worker_is_seen_while_it_captions(home: House, tmp_path: Path) -> None:
    queue(home, "blip", prompt="a picture of")
    worker = start_worker(home, tmp_path / "log")
    try:
        ring(home)
        wait_for(lambda: bool(find_programs(worker)), 60)
        [program] = find_programs(worker)
        program.suspend()  # a long caption
        with home.sessions.begin() as session:
            session.execute(update(Worker).values(seen_at=func.now() - timedelta(minutes=2)))
        with home.sessions() as session:
            assert list_workers(session, DEFAULT_TENANT) == []
        wait_for(lambda: is_seen(home), 20)
    finally:
        for program in find_programs(worker):  # suspended, it would not notice the end of its worker
            program.kill()
        worker.kill()


def is_seen(house: House) -> bool:
    with house.sessions() as session:
        return bool(list_workers(session, DEFAULT_TENANT))


def find_programs(worker: Running) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(worker.popen.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if PROGRAM in process.cmdline():
                found.append(process)
    return found


def test_the_last_of_several_dead_workers_fails_it(home: House) -> None:
    captioning_id = queue(home)
    for _ in range(5):
        with home.sessions.begin() as session:
            assert captioning_claims.claim_captioning(session, lease_seconds=-1) is not None
        with home.sessions.begin() as session:
            captioning_claims.expire_captionings(session)
    row = read(home, captioning_id)
    assert row.status == "failed" and row.error is not None and "5 times" in row.error["detail"]


def test_tenants_take_turns(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with home.sessions.begin() as session:
        session.merge(Tenant(id="ten_other", name="other"))
        session.flush()
        session.merge(
            Dataset(id="ds_2", tenant_id="ten_other", status="ready", manifest=home.manifest.model_dump(mode="json"))
        )
    first, second = queue(home), queue(home)
    theirs = queue(home, tenant="ten_other", dataset="ds_2")
    monkeypatch.setattr(service, "TURN_SECONDS", 0.0)
    order = []
    for _ in range(20):
        before = {each: read(home, each).status for each in (first, second, theirs)}
        if not caption_next(home.settings):
            break
        order += [each for each in before if read(home, each).status != before[each]]
    assert {read(home, each).status for each in (first, second, theirs)} == {"succeeded"}
    assert order.index(theirs) < order.index(second)


def test_a_turn_that_is_over_makes_room_and_is_not_an_attempt(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TURN_SECONDS", 0.0)
    first, second = queue(home), queue(home, threshold=0.2)
    assert caption_next(home.settings)
    row = read(home, first)
    assert (row.status, row.attempt, row.lease_until) == ("queued", 0, None) and row.turn_ended_at is not None
    assert caption_next(home.settings)
    assert read(home, second).turn_ended_at is not None, "the other one's turn"


def test_what_became_of_the_captioner_is_said(home: House) -> None:
    write_tagger(home.settings.models_path / "captioners" / "passing")
    register(home, "passing")
    assert register_next_captioner(home.settings)
    changed, gone = queue(home, "passing"), queue(home, "passing", threshold=0.2)
    tags = home.settings.models_path / "captioners" / "passing" / "selected_tags.csv"
    tags.write_text(tags.read_text().replace("red_theme", "pink_theme"))
    assert "are not those that were registered" in fail(home, changed)
    register(home, "passing")
    assert register_next_captioner(home.settings)
    assert "was replaced after this was queued" in fail(home, gone)
    removed = queue(home, "passing")
    with home.sessions.begin() as session:
        captioners.delete_captioner(session, "passing")
    assert "was removed" in fail(home, removed)


def test_a_worker_without_the_folder_leaves_it_to_others(home: House) -> None:
    folder = home.settings.models_path / "captioners" / "tags"
    captioning_id = queue(home)
    folder.rename(folder.with_name("away"))
    try:
        assert caption_next(home.settings)
        row = read(home, captioning_id)
        assert (row.status, row.attempt, row.num_deferrals) == ("queued", 0, 1)
        assert row.waiting_reason is not None and "no captioner tags" in row.waiting_reason
    finally:
        folder.with_name("away").rename(folder)
    with home.sessions.begin() as session:
        session.execute(update(Captioning).values(run_after=None))
    assert caption_next(home.settings) and read(home, captioning_id).status == "succeeded"


def test_a_lost_image_is_named(home: House) -> None:
    image = home.manifest.images[2]
    content = home.storage.read(image.key)
    home.storage.delete(image.key)
    try:
        assert fail(home, queue(home)) == f"{image.name} is no longer in storage. Upload the set again."
    finally:
        home.storage.put(image.key, content, content_type="image/png")


@pytest.mark.parametrize(
    ("captioner", "how", "says"),
    [
        ("tags", {"prompt": "what is it?"}, "does not take a prompt"),
        ("blip", {"threshold": 0.5}, "only a tagger has a threshold"),
    ],
)
def test_options_without_effect_are_refused(home: House, captioner: str, how: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        queue(home, captioner, **how)
