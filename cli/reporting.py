"""The output of client commands: text for a person, or JSON lines for a program."""

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from rich.console import Console
from rich.text import Text

from atelier_client import Update
from atelier_client.models import Job, JobEvent
from cli.progress import LineProgress, LiveProgress
from cli.pulse import Pulse

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Reporter(Protocol):
    """``say`` has a sentence for people and the same as data for programs."""

    def say(self, event: str, text: str, **data: Any) -> None: ...

    def warn(self, event: str, text: str, **data: Any) -> None: ...

    def fail(self, message: str, **data: Any) -> None: ...

    def uploading(self, num_bytes: int) -> AbstractContextManager[Callable[[int], None]]:
        """Gives what is called with the number of bytes that just left."""

    def waiting(self, text: str, detail: Callable[[], str] = str) -> AbstractContextManager[None]:
        """While the service works on something other than a job; ``detail`` is asked for more now and then."""

    def following(self, job: Job) -> AbstractContextManager[Callable[[Update], None]]:
        """Gives what is called with each update of the job."""


class JsonReporter:
    """One JSON object per line on stdout, each with ``event``; nothing else is printed."""

    def say(self, event: str, text: str, **data: Any) -> None:
        print_json({"event": event, **data})

    warn = say

    def fail(self, message: str, **data: Any) -> None:
        print_json({"event": "error", "message": message, **data})

    @contextlib.contextmanager
    def uploading(self, num_bytes: int) -> Iterator[Callable[[int], None]]:
        print_json({"event": "upload", "bytes": num_bytes})
        sent = 0

        def count(amount: int) -> None:
            nonlocal sent
            sent += amount

        with Pulse(lambda _: print_json({"event": "uploading", "bytes": num_bytes, "sent": sent})):
            yield count

    @contextlib.contextmanager
    def waiting(self, text: str, detail: Callable[[], str] = str) -> Iterator[None]:
        def beat(seconds: float) -> None:
            print_json({"event": "waiting", "for": text, "seconds": round(seconds, 1), "detail": detail()})

        with Pulse(beat):
            yield

    @contextlib.contextmanager
    def following(self, job: Job) -> Iterator[Callable[[Update], None]]:
        """Without news for a while, where the job stands is printed again."""
        latest = job

        def on_update(update: Update) -> None:
            nonlocal latest
            latest = update if isinstance(update, Job) else latest
            pulse.touch()
            print_update(update)

        with Pulse(lambda _: print_update(latest)) as pulse:
            yield on_update


def print_update(update: Update) -> None:
    whole = update.model_dump(mode="json")
    if isinstance(update, JobEvent):
        print_json({"event": update.type, "job": update.job, "created_at": whole["created_at"], **update.data})
    elif update.progress is not None:
        state = {key: whole[key] for key in ("status", "phase")}
        print_json({"event": "progress", "job": update.id, **state, **whole["progress"]})


def print_json(document: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    sys.stdout.flush()


class HumanReporter:
    """Progress bars on a terminal; a line now and then elsewhere. Errors go to stderr."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self.errors = Console(highlight=False, soft_wrap=True, stderr=True)

    def say(self, event: str, text: str, **data: Any) -> None:
        self.console.print(printable(text))

    def warn(self, event: str, text: str, **data: Any) -> None:
        self.console.print(Text.assemble(("! ", "yellow"), printable(text)))

    def fail(self, message: str, **data: Any) -> None:
        self.errors.print(Text.assemble(("Error: ", "bold red"), printable(message)))

    def uploading(self, num_bytes: int) -> AbstractContextManager[Callable[[int], None]]:
        return self._progress().uploading(num_bytes)

    def waiting(self, text: str, detail: Callable[[], str] = str) -> AbstractContextManager[None]:
        return self._progress().waiting(text, detail)

    def following(self, job: Job) -> AbstractContextManager[Callable[[Update], None]]:
        return self._progress().following(job)

    def _progress(self) -> LiveProgress | LineProgress:
        return LiveProgress(self.console) if self.console.is_terminal else LineProgress(self.console)


def printable(text: str) -> Text:
    """Names and details come from elsewhere: they neither move the cursor nor style the text."""
    return Text(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))


def choose_reporter(as_json: bool) -> Reporter:
    return JsonReporter() if as_json else HumanReporter()
