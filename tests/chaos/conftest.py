"""Stacks of real processes for the tests here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.clients import StubbornClient
from tests.chaos.stack import SCALED, Stack, running_stack
from tests.chaos.undisturbed import open_client, upload_dataset


@dataclass
class Service:
    """A stack with a dataset that jobs can be posted for."""

    stack: Stack
    client: StubbornClient
    dataset_id: str


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder: Path = tmp_path_factory.mktemp("stack")
    with running_stack(folder, SCALED) as stack:
        client = open_client(stack)
        yield Service(stack, client, upload_dataset(stack))
        client.close()
