"""A real API; datasets are validated by the real validator, jobs and generations are played by the tests."""

from tests.fixtures.client import trainer, validator
from tests.fixtures.drawing import drawer
from tests.fixtures.running_api import own_api, running_api, shared_api

__all__ = ["drawer", "own_api", "running_api", "shared_api", "trainer", "validator"]
