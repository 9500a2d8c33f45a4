"""Weights come as .safetensors with an honest header, or not at all; nothing that could run is opened."""

import tracemalloc
from pathlib import Path
from typing import cast

import pytest

from core.domain.errors import WeightsRejected
from core.domain.plan import TrainPlan
from core.domain.weights import HEAD_BYTES, read_header
from tests.app.conftest import LiveApi
from tests.app.factory import MODEL, add_model
from tests.app.test_jobs import refuse
from tests.fixtures.weights import pack_weights, weights_in, weights_of
from tests.hostile.headers import list_headers
from tests.hostile.weights import CANARY, NAMES, list_pickled
from worker.training import single_file
from worker.training.checkpoint import load_checkpoint
from worker.training.errors import BadInput
from worker.training.proof.files import read_file
from worker.training.state import State

PICKLED, HEADERS = list_pickled(), list_headers()
PEAK_BYTES = 128 << 20
"""Beyond the header itself, of which there are 4 MiB at the most."""


@pytest.fixture(autouse=True)
def nothing_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / CANARY).exists()


def send(api: LiveApi, name: str, content: bytes):
    add_model(api)
    return api.client.post("/adapters", data={"model": MODEL.id}, files={"file": (name, content)})


@pytest.mark.parametrize("what", PICKLED)
def test_other_formats_are_told_by_their_contents(api: LiveApi, what: str) -> None:
    before = api.list_stored("adapters/")
    problem = refuse(send(api, "ink.safetensors", PICKLED[what]), 415, "unsupported-weights")
    assert list(problem["errors"]) == ["/file"] and ".safetensors" in problem["detail"]
    assert api.list_stored("adapters/") == before


@pytest.mark.parametrize("name", NAMES)
def test_other_formats_are_told_by_their_names(api: LiveApi, name: str) -> None:
    before = api.list_stored("adapters/")
    refuse(send(api, name, weights_of(b"x")), 415, "unsupported-weights")
    assert api.list_stored("adapters/") == before


@pytest.mark.parametrize("what", HEADERS)
def test_headers_that_are_broken_or_deceive(api: LiveApi, what: str) -> None:
    before = api.list_stored("adapters/")
    problem = refuse(send(api, "ink.safetensors", HEADERS[what]), 422, "weights-rejected")
    assert list(problem["errors"]) == ["/file"] and len(problem["detail"]) < 400
    assert api.list_stored("adapters/") == before


def test_after_all_of_them_an_honest_file_is_taken(api: LiveApi) -> None:
    for content in (weights_of(b"x" * 1000), weights_in(100), pack_weights({"__metadata__": {"a": "é{[" * 9}})):
        assert send(api, "ink.safetensors", content).status_code == 202


@pytest.mark.parametrize("what", [*PICKLED, *HEADERS])
def test_the_worker_relies_on_nobody_before_it(tmp_path: Path, what: str) -> None:
    """An import's program and a base's refuse the same by themselves."""
    file = tmp_path / "a.safetensors"
    file.write_bytes({**PICKLED, **HEADERS}[what])
    for read in (read_file, single_file.read_header):
        with pytest.raises(BadInput):
            read(file)


@pytest.mark.parametrize("what", PICKLED)
def test_a_checkpoint_is_no_pickle_either(tmp_path: Path, what: str) -> None:
    """Refused before the run that would go on from it is touched."""
    (tmp_path / "checkpoint").write_bytes(PICKLED[what])
    with pytest.raises(BadInput, match="cannot be read"):
        load_checkpoint(cast(State, None), cast(TrainPlan, None), tmp_path / "checkpoint")


def test_no_header_takes_more_memory_than_is_said() -> None:
    """4 MiB of each of what a parser makes most of."""
    for text in (
        b'{"a":[' + b",".join([b"1e1"] * 1_040_000) + b"]}",
        b'{"a":[' + b",".join([b'"abc"'] * 690_000) + b"]}",
        b"{" + b",".join(b'"%x":1' % number for number in range(16**4, 16**4 + 400_000)) + b"}",
        b'{"a":[' + b",".join([b"{}", b"[]"] * 49_000) + b"]}",
    ):
        content = pack_weights(text)
        tracemalloc.start()
        with pytest.raises(WeightsRejected):
            read_header(content[:HEAD_BYTES], len(content))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < PEAK_BYTES, text[:40]
