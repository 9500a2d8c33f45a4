"""The signals the supervisor lives by, as something that one thread can wait for."""

import os
import select
import signal
from types import FrameType, TracebackType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SignalInbox:
    """While entered, it counts the stop signals, which then do not end the process. They end a ``wait``, as does a
    child's end."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(STOP_SIGNALS, 0)
        self._previous: dict[signal.Signals, object] = {}

    @property
    def stop_requested(self) -> bool:
        return any(self._counts.values())

    @property
    def kill_requested(self) -> bool:
        """Ctrl-C a second time. Service managers may well send several other signals, without that meaning."""
        return self._counts[signal.SIGINT] >= 2

    def wait(self, timeout_seconds: float) -> None:
        if select.select([self._reader], [], [], timeout_seconds)[0]:
            os.read(self._reader, 4096)

    def __enter__(self) -> "SignalInbox":
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # as signal.signal returned it
        signal.set_wakeup_fd(-1)
        os.close(self._reader)
        os.close(self._writer)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number in self._counts:
            self._counts[signal.Signals(number)] += 1
