"""What clients request of a training between two of its steps."""

import logging
from collections.abc import Callable

from worker.engine.device import is_out_of_memory
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
