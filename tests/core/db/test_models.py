"""Registered models, on PostgreSQL."""

import pytest
from sqlalchemy.orm import Session, sessionmaker

from core.db import models
from core.db.workers import is_migrated
from core.domain.errors import NotFound
from core.domain.model import FAMILY_DEFAULTS, ModelInfo

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
