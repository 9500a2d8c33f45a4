"""Weights come as .safetensors with an honest header, or not at all; nothing that could run is opened."""

import json
import tracemalloc
from pathlib import Path
from typing import cast

import pytest

from core.domain.errors import WeightsRejected
from core.domain.plan import TrainPlan
from core.domain.weights import HEAD_BYTES, LENGTH_BYTES, MAX_HEADER_BYTES, measure_head, read_header
from tests.app.conftest import LiveApi
from tests.app.factory import MODEL, add_model
from tests.app.test_jobs import refuse
from tests.fixtures.weights import pack_weights, weights_in, weights_of
from tests.hostile.headers import list_headers
from tests.hostile.weights import CANARY, NAMES, list_pickled
from worker.engine.adapter_files.proof.files import read_file
from worker.engine.bases import single_file
from worker.engine.errors import BadInput
from worker.engine.training.checkpoint import load_checkpoint
from worker.engine.training.state import State

PICKLED, HEADERS = list_pickled(), list_headers()
PEAK_BYTES = 128 << 20
"""Beyond the header itself, of which there are 8 MiB at the most."""


@pytest.fixture(autouse=True)
def nothing_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / CANARY).exists()


def send(api: LiveApi, name: str, content: bytes):
    add_model(api)
    return api.client.post("/adapters", data={"model": MODEL.id}, files={"file": (name, content)})


def test_other_formats_are_recognized_by_their_contents(api: LiveApi, subtests: pytest.Subtests) -> None:
    before = api.list_stored("adapters/")
    for what, content in PICKLED.items():
        with subtests.test(what):
            problem = refuse(send(api, "ink.safetensors", content), 415, "unsupported-weights")
            assert list(problem["errors"]) == ["/file"] and ".safetensors" in problem["detail"]
            assert api.list_stored("adapters/") == before


def test_other_formats_are_recognized_by_their_names(api: LiveApi, subtests: pytest.Subtests) -> None:
    before = api.list_stored("adapters/")
    for name in NAMES:
        with subtests.test(name):
            refuse(send(api, name, weights_of(b"x")), 415, "unsupported-weights")
            assert api.list_stored("adapters/") == before


def test_headers_that_are_broken_or_deceive(api: LiveApi, subtests: pytest.Subtests) -> None:
    before = api.list_stored("adapters/")
    for what, content in HEADERS.items():
        with subtests.test(what):
            problem = refuse(send(api, "ink.safetensors", content), 422, "weights-rejected")
            assert list(problem["errors"]) == ["/file"] and len(problem["detail"]) < 400
            assert api.list_stored("adapters/") == before


def test_after_all_of_them_an_honest_file_is_taken(api: LiveApi) -> None:
    for content in (weights_of(b"x" * 1000), weights_in(100), pack_weights({"__metadata__": {"a": "é{[" * 9}})):
        assert send(api, "ink.safetensors", content).status_code == 202


def test_the_worker_relies_on_nobody_before_it(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """An import's program and a base's refuse the same by themselves."""
    file = tmp_path / "a.safetensors"
    for what, content in {**PICKLED, **HEADERS}.items():
        file.write_bytes(content)
        for read in (read_file, single_file.read_header):
            with subtests.test(what, read=read.__name__), pytest.raises(BadInput):
                read(file)


def test_a_checkpoint_is_no_pickle_either(tmp_path: Path, subtests: pytest.Subtests) -> None:
    """Refused before the run that would go on from it is touched."""
    for what, content in PICKLED.items():
        (tmp_path / "checkpoint").write_bytes(content)
        with subtests.test(what), pytest.raises(BadInput, match="cannot be read"):
            load_checkpoint(cast(State, None), cast(TrainPlan, None), tmp_path / "checkpoint")


def test_no_header_takes_more_memory_than_is_said() -> None:
    """8 MiB of each of what a parser makes most of."""
    wide = "\N{GRINNING FACE}" + "a" * (MAX_HEADER_BYTES - 100)
    for text in (
        b'{"a":[' + b",".join([b"1e1"] * 2_080_000) + b"]}",
        b'{"a":[' + b",".join([b'"abc"'] * 1_380_000) + b"]}",
        b"{" + b",".join(b'"%x":1' % number for number in range(16**4, 16**4 + 800_000)) + b"}",
        b'{"a":[' + b",".join([b"{}", b"[]"] * 98_000) + b"]}",
        b'{"a":[' + b",".join([b"1e1"] * 490_000) + b"]}",
        b'{"__metadata__":[' + b",".join([b'"abc"'] * 240_000) + b"]}",
        b'{"a":"' + rb"\"" * 4_000_000 + b"}",
        f'{{"__metadata__":{{"a":"{wide}"}},"b":1}}'.encode(),
    ):
        content = pack_weights(text)
        tracemalloc.start()
        with pytest.raises(WeightsRejected):
            read_header(content[:HEAD_BYTES], len(content))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < PEAK_BYTES, (text[:40], peak)


def test_long_metadata_are_taken_whatever_is_in_them(api: LiveApi) -> None:
    """A table of tags as sd-scripts writes it, of more than 4 MiB, in several pieces."""
    tags = json.dumps({"set": {f'a "tag", [{number}], {{with}} \\ marks': number for number in range(150_000)}})
    content = pack_weights({"__metadata__": {"ss_tag_frequency": tags}, "a": GOOD}, bytes(4))
    assert 4 << 20 < len(content) < MAX_HEADER_BYTES
    assert send(api, "ink.safetensors", content).status_code == 202
    header = read_header(content[: measure_head(content[:LENGTH_BYTES])], len(content))
    assert header.metadata == {"ss_tag_frequency": tags}


GOOD = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
