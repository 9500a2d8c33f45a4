"""What a training does for others between two of its steps."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from worker.engine.adapters import adapters_disabled
from worker.engine.device import is_out_of_memory
from worker.engine.families.protocol import Network
from worker.engine.observer import Observer, SampleRequest

log = logging.getLogger("atelier.trainer")


def answer_requests(observer: Observer, draw: Callable[[SampleRequest], None]) -> None:
    """Draws everything that was requested since the last step. A request that does not fit into the memory beside the
    training fails, and the training goes on. Raises Stopped when the observer asks for it."""
    while (request := observer.next_sample_request()) is not None:
        try:
            draw(request)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            log.warning("the requested samples %s do not fit", request.id, exc_info=error)
            observer.sample_request_failed(
                request.id, "The device has too little memory to draw images beside this training."
            )


@contextmanager
def lend(denoiser: Network) -> Iterator[None]:
    """Within it the denoiser of a training predicts as if nothing were trained on it. The training finds it, and
    torch's random numbers, as it left them."""
    devices = {param.device for param in denoiser.module.parameters() if param.is_cuda}
    with torch.random.fork_rng([*devices]), adapters_disabled([denoiser]):
        denoiser.module.eval()
        try:
            yield
        finally:
            denoiser.module.train()
