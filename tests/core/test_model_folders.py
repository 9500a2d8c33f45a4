"""Which bases this machine has."""

from pathlib import Path

import pytest

from core.domain.errors import ModelRejected
from core.model_folders import (
    BUNDLED,
    CARD,
    BaseMissing,
    find_model_folder,
    find_planned_folder,
    read_card,
)
from core.settings import Settings


def settings(home: Path) -> Settings:
    return Settings(home=home, database_url="postgresql://x", redis_url="redis://x")


def test_the_bundled_base_is_there_and_a_bad_card_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "models" / "broken").mkdir(parents=True)
    (tmp_path / "models" / "broken" / CARD).write_text("{")
    assert find_model_folder(settings(tmp_path), "tiny") == BUNDLED / "tiny"


def test_an_operators_base_hides_the_bundled_one(tmp_path: Path) -> None:
    mine = tmp_path / "models" / "mine"
    mine.mkdir(parents=True)
    (mine / CARD).write_text((BUNDLED / "tiny" / CARD).read_text())
    assert find_model_folder(settings(tmp_path), "tiny") == mine


def test_a_base_that_is_not_here_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(BaseMissing, match="no base model sdxl"):
        find_model_folder(settings(tmp_path), "sdxl")


def test_a_base_is_the_one_that_was_planned_or_it_is_said_whose_is_not(tmp_path: Path) -> None:
    here = read_card(BUNDLED / "tiny")
    other = here.model_copy(update={"sha256": "0" * 64})
    assert find_planned_folder(settings(tmp_path), here, here.sha256) == BUNDLED / "tiny"
    assert find_planned_folder(settings(tmp_path), other, here.sha256) == BUNDLED / "tiny", "it is still here"
    with pytest.raises(ModelRejected, match="tiny was replaced after this was planned: submit it again"):
        find_planned_folder(settings(tmp_path), here, other.sha256)
    with pytest.raises(BaseMissing, match="tiny is not the registered one"):
        find_planned_folder(settings(tmp_path), other, other.sha256)
