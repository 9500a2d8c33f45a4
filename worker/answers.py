"""How a program answers the one that started it: through standard output, which is for answers alone."""

import os
import sys
from collections.abc import Callable
from typing import BinaryIO, TypeVar

from core.domain.base import Frozen
from worker.parent import die_with_parent

Order = TypeVar("Order")


def take_stdout() -> BinaryIO:
    """What was standard output until now. From here on, output of libraries goes to standard error, the log."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def answer_order(parse: Callable[[bytes], Order], work: Callable[[Order], Frozen]) -> None:
    """The order is all of standard input. The program ends with its parent, whose id is its first argument."""
    die_with_parent(int(sys.argv[1]))
    with take_stdout() as answers:
        answers.write(work(parse(sys.stdin.buffer.read())).model_dump_json().encode())
