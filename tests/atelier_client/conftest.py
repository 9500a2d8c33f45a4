"""A client on a real API."""

from tests.fixtures.client import client, trainer, validator
from tests.fixtures.imports import checker, files
from tests.fixtures.running_api import own_api, running_api, shared_api

__all__ = ["checker", "client", "files", "own_api", "running_api", "shared_api", "trainer", "validator"]
