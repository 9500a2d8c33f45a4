"""Trainers of one machine that write the same file of a cache that they share."""

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from worker.engine.adapter_files.formats import write_safetensors

NUM_WRITES = 200
TENSORS = {"latents": torch.arange(4096, dtype=torch.float32)}


def write_again_and_again(path: Path, start: Barrier) -> None:
    start.wait()
    for _ in range(NUM_WRITES):
        write_safetensors(path, TENSORS, {})


@pytest.mark.slow
def test_a_file_that_two_processes_write_at_once_is_always_whole(tmp_path: Path) -> None:
    path = tmp_path / "shared.prior"
    write_safetensors(path, TENSORS, {})
    spawn = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    start = spawn.Barrier(3, timeout=120)
    writers = [spawn.Process(target=write_again_and_again, args=(path, start)) for _ in range(2)]
    for writer in writers:
        writer.start()
    start.wait()
    while any(writer.is_alive() for writer in writers):
        assert torch.equal(load_file(path)["latents"], TENSORS["latents"])
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert list(tmp_path.iterdir()) == [path]
