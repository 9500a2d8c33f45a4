"""The trainer's commands, as they come through its pipe."""

import os
from pathlib import Path

from core.domain.dataset import DatasetManifest
from core.domain.model import ModelInfo
from tests.fixtures.bases import make_plan
from tests.fixtures.commands import make_train
from tests.fixtures.servers import wait_for
from worker.device.wire import StopTraining, Train
from worker.engine.observer import Stop
from worker.engine.serve import CommandReader


def test_a_stop_reaches_its_run_alone_and_is_not_kept_after_it(
    random_base: tuple[Path, ModelInfo], pictures: tuple[DatasetManifest, dict[str, Path]]
) -> None:
    folder, info = random_base
    plan = make_plan(pictures[0], info)
    receiving, sending = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    reader = CommandReader(receiving)

    def send(*messages: Train | StopTraining) -> None:
        for message in messages:
            sending.write(message.line())
        sending.flush()

    send(make_train(plan, folder, "a"), make_train(plan, folder, "b"), StopTraining(run_id="a", save=True))
    wait_for(lambda: reader.find_stop("a") is Stop.SAVE)
    assert reader.find_stop("b") is None
    reader.forget("a")
    send(StopTraining(run_id="a", save=False), StopTraining(run_id="b", save=False))
    wait_for(lambda: reader.find_stop("b") is Stop.DROP)
    assert reader.find_stop("a") is None
    sending.close()
    wait_for(lambda: reader.find_stop("a") is Stop.DROP)  # the worker is gone
