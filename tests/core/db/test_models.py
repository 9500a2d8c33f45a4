"""Registered models, on PostgreSQL."""

import pytest
from sqlalchemy.orm import Session, sessionmaker

from core.db import models
from core.db.models import CheckClaim
from core.db.workers import is_migrated
from core.domain.errors import NotFound, WrongState
from core.domain.model import FAMILY_DEFAULTS, ModelInfo
from core.domain.registration import ModelSource

INFO = ModelInfo(
    id="a", family="sd1", resolution=64, resolution_step=8, sha256="0" * 64, num_parameters=1, adapter_dims={},
    defaults=FAMILY_DEFAULTS["sd1"],
)  # fmt: skip


def test_a_model_of_the_same_id_is_replaced(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        first = models.upsert_model(session, INFO, location="/one")
        created_at = first.created_at
    with sessions.begin() as session:
        models.upsert_model(session, INFO.model_copy(update={"resolution": 128}), location="/two", status="checking")
    with sessions() as session:
        row = models.get_model(session, "a")
        assert (row.location, row.status, row.info["resolution"], row.created_at) == (
            "/two",
            "checking",
            128,
            created_at,
        )
        assert ModelInfo.model_validate(row.info).defaults == INFO.defaults


SOURCE = ModelSource(path="a.safetensors")


def test_a_model_is_prepared_by_one_worker_at_a_time(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        models.request_model(session, "a", SOURCE)
    with sessions.begin() as first, sessions.begin() as second:
        claim = models.claim_check(first)
        assert claim == CheckClaim("a", SOURCE)
        assert models.claim_check(second) is None
        models.request_model(second, "b", SOURCE)
        other = models.claim_check(second)
        assert other is not None and other.model_id == "b"
        assert models.commit_check(first, claim, INFO, location="/made/a")
        models.release_check(first, claim)
        models.release_check(second, other)
    with sessions() as session:
        row = models.get_model(session, "a")
        assert (row.status, row.location, row.source, row.error) == ("ready", "/made/a", None, None)
        assert models.read_card(row) == INFO


def test_a_lost_connection_gives_the_model_to_another(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        models.request_model(session, "a", SOURCE)
    lost = sessions()
    assert models.claim_check(lost) is not None
    lost.connection().invalidate()
    with sessions.begin() as session:
        claim = models.claim_check(session)
        assert claim is not None and claim.model_id == "a"
        models.release_check(session, claim)


def test_a_model_that_was_asked_for_anew_is_not_what_was_made(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        models.request_model(session, "a", SOURCE)
        claim = models.claim_check(session)
        assert claim is not None
        models.request_model(session, "a", SOURCE.model_copy(update={"prediction_type": "epsilon"}))
        assert not models.commit_check(session, claim, INFO, location="/made/a")
        assert not models.reject_check(session, claim, "no")
        assert models.get_model(session, "a").status == "checking"
        models.release_check(session, claim)


def test_a_folder_that_is_come_upon_is_registered_unless_its_model_is_being_prepared(
    sessions: sessionmaker[Session],
) -> None:
    with sessions.begin() as session:
        found = models.upsert_found(session, INFO, location="/one")
        assert found is not None and (found.status, found.location) == ("ready", "/one")
        models.request_model(session, "a", SOURCE)
        claim = models.claim_check(session)
        assert claim is not None
        assert models.upsert_found(session, INFO, location="/one") is None
        assert models.commit_check(session, claim, INFO.model_copy(update={"sha256": "1" * 64}), location="/made/a")
        models.release_check(session, claim)
        row = models.get_model(session, "a")
        session.refresh(row)
        assert (row.status, row.location, models.read_card(row).sha256) == ("ready", "/made/a", "1" * 64)


def test_a_rejected_model_keeps_the_card_it_had_and_says_why(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        models.upsert_model(session, INFO, location="/one")
        models.request_model(session, "a", SOURCE)
        with pytest.raises(WrongState, match="a is checking: wait"):
            models.read_card(models.get_model(session, "a"))
        claim = models.claim_check(session)
        assert claim is not None and models.reject_check(session, claim, "It is a teapot.")
        models.release_check(session, claim)
        row = models.get_model(session, "a")
        session.refresh(row)
        assert row.info is not None and row.info["id"] == "a"
        with pytest.raises(WrongState, match="a is rejected: It is a teapot"):
            models.read_card(row)
        assert models.claim_check(session) is None
        assert models.upsert_model(session, INFO, location="/one").error is None


def test_models_are_listed_by_id_and_named_when_one_is_missing(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        for model_id in ("b", "a"):
            models.upsert_model(session, INFO.model_copy(update={"id": model_id}), location="/x")
        assert [row.id for row in models.list_models(session)] == ["a", "b"]
        with pytest.raises(NotFound, match=r"'c'.*a, b"):
            models.get_model(session, "c")


def test_a_migrated_database_says_so(sessions: sessionmaker[Session]) -> None:
    with sessions() as session:
        assert is_migrated(session)
