"""Captions images, one at a time, in a process that may crash and knows no secret.

    python -P -m worker.engine.captioning.program PARENT_PID

The first line of standard input is a CaptionerOrder, each further one the path of an image; each is answered with a
CaptionerReply in one line. It ends with its parent.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from core.domain.captioner import CaptionerOrder, CaptionerReply
from worker.answers import take_stdout
from worker.engine.captioning.opening import open_captioner
from worker.engine.errors import BadInput
from worker.parent import die_with_parent

OUT_OF_MEMORY = "The device ran out of memory. Choose a smaller captioner, or ask the operator for a larger device."


def reply_all(lines: BinaryIO) -> Iterator[CaptionerReply]:
    """A refusal is the last reply."""
    try:
        captioner, info = open_captioner(CaptionerOrder.model_validate_json(lines.readline()))
        yield CaptionerReply(info=info)
        for line in lines:
            with Image.open(Path(os.fsdecode(line.rstrip(b"\n"))), formats=["PNG"]) as image:
                yield CaptionerReply(caption=captioner.caption(image.convert("RGB")))
    except BadInput as error:
        yield CaptionerReply(refusal=str(error))
    except MemoryError:
        yield CaptionerReply(refusal=OUT_OF_MEMORY)
    except RuntimeError as error:  # torch.OutOfMemoryError is one, and torch may not have been loaded
        if "out of memory" not in str(error).lower():
            raise
        yield CaptionerReply(refusal=OUT_OF_MEMORY)


def main() -> None:
    die_with_parent(int(sys.argv[1]))
    with take_stdout() as answers:
        for reply in reply_all(sys.stdin.buffer):
            answers.write(reply.model_dump_json().encode() + b"\n")
            answers.flush()


if __name__ == "__main__":
    main()
