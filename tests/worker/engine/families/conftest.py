"""One tiny random base per family, made once."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from core.domain.model import Family
from tests.fixtures.bases import write_random_base


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Path]:
    @cache
    def write(family: Family) -> Path:
        folder = tmp_path_factory.mktemp("families") / family
        write_random_base(folder, family=family)
        return folder

    return write
