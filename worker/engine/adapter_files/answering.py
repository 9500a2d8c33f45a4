"""What the programs that read adapters have in common: their memory, their refusals, and how they answer.

Each is called with its parent's id, reads an order from standard input and writes its answer to standard output.
"""

import resource
from collections.abc import Callable
from typing import Protocol, TypeVar

from core.domain.base import Frozen
from worker import answers
from worker.engine.device import is_out_of_memory
from worker.engine.errors import BadInput

MAX_REFUSAL_CHARS = 1000


class Order(Protocol):
    @property
    def memory_bytes(self) -> int: ...


Given = TypeVar("Given", bound=Order)
Answer = TypeVar("Answer", bound=Frozen)


def answer_or_refuse(work: Callable[[Given], Answer], order: Given, refuse: Callable[[str], Answer]) -> Answer:
    """Refusals are answers."""
    try:
        return work(order)
    except BadInput as error:
        return refuse(printable(str(error), MAX_REFUSAL_CHARS))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return refuse(f"reading the file takes more than {order.memory_bytes:,} bytes of memory")


def printable(text: str, max_chars: int) -> str:
    """Messages contain names from a file that may be hostile."""
    return "".join(char if char.isprintable() else "?" for char in text)[:max_chars]


def limit_memory(memory_bytes: int) -> None:
    """Limits this process's allocations from here on, but not the files that it maps to read."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def answer_order(parse: Callable[[bytes], Given], work: Callable[[Given], Frozen]) -> None:
    """Within the order's memory."""

    def work_within(order: Given) -> Frozen:
        limit_memory(order.memory_bytes)
        return work(order)

    answers.answer_order(parse, work_within)
