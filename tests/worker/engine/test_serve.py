"""The trainer's commands, as they come through its pipe."""

import os
from pathlib import Path

from core.domain.dataset import DatasetManifest
from core.domain.model import ModelInfo
from core.domain.plan import TrainPlan
from tests.fixtures.bases import make_plan
from tests.fixtures.servers import wait_for
from worker.device.wire import StopTraining, Train
from worker.engine.observer import Stop
from worker.engine.serve import CommandReader


def make_train(plan: TrainPlan, run_id: str) -> Train:
    folder = Path("/nowhere")
    return Train(
        run_id=run_id, plan=plan, runtime=None, model_folder=folder, model_parameters=1,
        cpu_threads=1, files={}, workdir=folder, cache_folder=folder, shared_cache=folder, resume_from=None,
    )  # fmt: skip


def test_a_stop_reaches_its_run_alone_and_is_not_kept_after_it(
    random_base: tuple[Path, ModelInfo], pictures: tuple[DatasetManifest, dict[str, Path]]
) -> None:
    plan = make_plan(pictures[0], random_base[1])
    receiving, sending = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
    reader = CommandReader(receiving)

    def send(*messages: Train | StopTraining) -> None:
        for message in messages:
            sending.write(message.line())
        sending.flush()

    send(make_train(plan, "a"), make_train(plan, "b"), StopTraining(run_id="a", save=True))
    wait_for(lambda: reader.find_stop("a") is Stop.SAVE)
    assert reader.find_stop("b") is None
    reader.forget("a")
    send(StopTraining(run_id="a", save=False), StopTraining(run_id="b", save=False))
    wait_for(lambda: reader.find_stop("b") is Stop.DROP)
    assert reader.find_stop("a") is None
    sending.close()
    wait_for(lambda: reader.find_stop("a") is Stop.DROP)  # the worker is gone
