"""Keeps a tree of services: up in stages, watched, restarted when one dies, down in the reverse order."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cli.errors import CommandError, StartError
from cli.local.home import Home, load_credentials
from cli.local.supervisor.orphans import end_tree
from cli.local.supervisor.process import RunningProcess, start_process, tail
from cli.local.supervisor.service import Service
from cli.local.supervisor.signals import SignalInbox

Stage = Sequence[Service]

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
STEADY_AFTER_SECONDS = 15.0  # a run of this length is not a crash loop: the next delay is the first again
EXPLAINED_AFTER_SECONDS = 2.0  # if a stop takes longer, the log says why
EXIT_OK, EXIT_KILLED = 0, 130

log = logging.getLogger("atelier.supervisor")


class StopRequested(Exception):
    """A stop was requested before everything was up."""


@dataclass
class ServiceState:
    """A service of the tree and its process, if it runs. Times are of the monotonic clock."""

    service: Service
    process: RunningProcess | None = None
    is_ready: bool = False
    started_at: float = 0.0
    restart_at: float = 0.0
    delay_seconds: float = FIRST_DELAY_SECONDS


@dataclass
class Supervisor:
    """Must live in the main thread: the kernel ties the children's lives to the thread that starts them."""

    home: Home
    stages: Sequence[Stage]
    signals: SignalInbox
    states: list[list[ServiceState]] = field(init=False)

    def __post_init__(self) -> None:
        self.states = [[ServiceState(service) for service in stage] for stage in self.stages]

    def start(self) -> None:
        """Raises StartError with the end of the log if a service does not start, StopRequested if it should stop."""
        for stage in self.states:
            for state in stage:
                self._start(state)
            while not all(self._is_up(state) for state in stage):
                self._check_all_alive()
                self.signals.wait(0.1)
                if self.signals.stop_requested:
                    raise StopRequested
            log.info("up: %s", ", ".join(state.service.name for state in stage))

    def watch(self) -> None:
        """Restarts services that die, until a stop is requested."""
        while not self.signals.stop_requested:
            for state in self._all_states():
                self._tend(state)
            self.signals.wait(0.5)

    def stop(self) -> bool:
        """Stops the stages in the reverse order. False if a kill was requested instead of a wait."""
        for stage in reversed(self.states):
            running = [state.process for state in stage if state.process and state.process.poll() is None]
            self._stop_together(running)
        return not self.signals.kill_requested

    def _all_states(self) -> list[ServiceState]:
        return [state for stage in self.states for state in stage]

    def _start(self, state: ServiceState) -> None:
        state.process, state.is_ready, state.started_at = (
            start_process(state.service, self.home),
            False,
            time.monotonic(),
        )
        log.info("started %s (pid %d)", state.service.name, state.process.pid)

    def _is_up(self, state: ServiceState) -> bool:
        if state.service.once:
            return state.process is not None and state.process.poll() == 0
        state.is_ready = state.is_ready or state.service.ready()
        return state.is_ready

    def _check_all_alive(self) -> None:
        for state in self._all_states():
            code = state.process.poll() if state.process else None
            if code is not None and not (state.service.once and code == 0):
                raise StartError(self._describe_failure(state.service, f"ended at its start ({_reason(code)})"))
            waited = time.monotonic() - state.started_at
            if state.process and code is None and not state.is_ready and waited > state.service.start_timeout_seconds:
                raise StartError(self._describe_failure(state.service, f"was not ready after {waited:.0f} s"))

    def _describe_failure(self, service: Service, what: str) -> str:
        file = self.home.log_file(service.name)
        return f"{service.name} {what}. The end of {file}:\n{tail(file)}"

    def _tend(self, state: ServiceState) -> None:
        if state.service.once:
            return
        if state.process is None:
            if time.monotonic() >= state.restart_at:
                self._restart(state)
        elif (code := state.process.poll()) is not None:
            state.process.kill()  # the rest of its group
            self._schedule_restart(state, f"died ({_reason(code)})")
        elif not state.is_ready and self._is_up(state):
            log.info("%s is back", state.service.name)

    def _restart(self, state: ServiceState) -> None:
        try:
            self._start(state)
        except (CommandError, OSError) as error:
            self._schedule_restart(state, f"cannot be started: {error}")

    def _schedule_restart(self, state: ServiceState, why: str) -> None:
        now = time.monotonic()
        if state.process and now - state.started_at >= STEADY_AFTER_SECONDS:
            state.delay_seconds = FIRST_DELAY_SECONDS
        state.process, state.restart_at = None, now + state.delay_seconds
        file = self.home.log_file(state.service.name)
        log.warning("%s %s; starting it again in %.1f s, see %s", state.service.name, why, state.delay_seconds, file)
        state.delay_seconds = min(2 * state.delay_seconds, LONGEST_DELAY_SECONDS)

    def _stop_together(self, processes: Sequence[RunningProcess]) -> None:
        for process in processes if not self.signals.kill_requested else ():
            log.info("stopping %s (pid %d)", process.service.name, process.pid)
            process.signal(process.service.stop_signal)
        asked_at, is_explained = time.monotonic(), False
        while running := [process for process in processes if process.poll() is None]:
            waited = time.monotonic() - asked_at
            if not is_explained and waited > EXPLAINED_AFTER_SECONDS:
                is_explained = True
                log.info(_describe_wait([process.service for process in running]))
            late = [process for process in running if waited > process.service.stop_timeout_seconds]
            for process in running if self.signals.kill_requested else late:
                log.warning("killing %s (pid %d)", process.service.name, process.pid)
                process.kill()
                process.popen.wait()
            self.signals.wait(0.1)


def _describe_wait(services: Sequence[Service]) -> str:
    names = ", ".join(service.name for service in services)
    seconds = max(service.stop_timeout_seconds for service in services)
    return (
        f"waiting up to {seconds:.0f} s for {names}: a running job writes a checkpoint, and goes on from it next time"
    )


def _reason(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def run_tree(home: Home, stages: Sequence[Stage], on_up: Callable[[], object] = lambda: None) -> int:
    """Starts the stages one after the other, calls ``on_up``, and keeps them running until a stop is requested.

    The caller holds the home's lock. Returns the exit code: 0 after an orderly stop, 130 after a second
    Ctrl-C. Raises StartError when something did not come up; by then everything is down again.
    """
    home_id = load_credentials(home).home_id
    with SignalInbox() as signals:
        if leftovers := end_tree(home, home_id):
            log.warning("ended what an earlier run had left: %s", ", ".join(map(str, leftovers)))
        supervisor = Supervisor(home, stages, signals)
        try:
            supervisor.start()
            on_up()
            supervisor.watch()
        except StopRequested:
            log.info("a stop was requested before everything was up")
        finally:
            stopped_in_order = supervisor.stop()
            end_tree(home, home_id)  # what hid in sessions of its own
            for service in (service for stage in stages for service in stage):
                service.clear_up()
        return EXIT_OK if stopped_in_order else EXIT_KILLED
