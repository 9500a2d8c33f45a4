"""A captioner, loaded by the program that runs it: the boundary between models that somebody made and the worker."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from core.domain.captioner import CaptionerInfo, CaptionerOrder, CaptionerReply
from worker.dialogue import Dialogue, ProgramDied

PROGRAM = "worker.engine.captioning.program"
LOAD_SECONDS, IMAGE_SECONDS = 3600.0, 600.0
"""After which it is killed. Loading includes hashing the files, from a slow disk."""
_KEPT_VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "TMPDIR", "HOME"),
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "PYTORCH_ALLOC_CONF"),
)
_VARIABLES = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}


class CaptionerRefused(Exception):
    """The captioner cannot be used; the message says why, for its owner."""


class LoadedCaptioner:
    """``check`` is called periodically; its exception ends the program and is passed on.

    Use it from a thread that lives as long: the program dies with the thread that started it.
    """

    def __init__(self, order: CaptionerOrder, check: Callable[[], None]) -> None:
        """Raises CaptionerRefused, and what ``check`` raises."""
        self._dialogue = Dialogue(PROGRAM, [], check, also_kept=_KEPT_VARIABLES, variables=_VARIABLES)
        try:
            reply = self._ask(order.model_dump_json(), LOAD_SECONDS, "was loaded")
            assert reply.info is not None
            self.info: CaptionerInfo = reply.info
        except BaseException:
            self._dialogue.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dialogue.close()

    @property
    def pid(self) -> int:
        return self._dialogue.pid

    def caption(self, path: Path, name: str) -> str:
        """What it writes for the image file. Raises CaptionerRefused, and what ``check`` raises."""
        return self._ask(str(path), IMAGE_SECONDS, f"captioned {name}").caption or ""

    def _ask(self, line: str, timeout_seconds: float, doing: str) -> CaptionerReply:
        try:
            reply = CaptionerReply.model_validate_json(self._dialogue.ask(line, timeout_seconds))
        except ProgramDied as error:
            raise CaptionerRefused(
                f"The captioner's program died while it {doing}: {error}. The worker's log may say more; -9 means that "
                "the system killed it, usually because memory ran out."
            ) from error
        except ValidationError as error:
            raise CaptionerRefused(f"The captioner's program answered nonsense while it {doing}.") from error
        if reply.refusal is not None:
            raise CaptionerRefused(reply.refusal)
        return reply
