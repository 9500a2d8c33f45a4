"""The supervisor as a real process over stand-in services."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest

from cli.local.home import Home, load_credentials
from cli.local.supervisor.orphans import MARK_VARIABLE
from cli.local.supervisor.process import tail
from tests.fixtures.servers import wait_for

ROOT = Path(__file__).parents[3]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")


@dataclass
class Tree:
    home: Home
    supervisor: "subprocess.Popen[str]"

    def journal(self) -> list[tuple[str, str, int]]:
        file = self.home.path / "journal"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(name, event, int(pid)) for name, event, pid in map(str.split, lines)]

    def events(self, event: str) -> list[str]:
        return [name for name, what, _ in self.journal() if what == event]

    def pid(self, role: str) -> int:
        return int(self.home.pid_file(role).read_text())

    def has_other_pid(self, role: str, pid: int) -> bool:
        return self.home.pid_file(role).exists() and self.pid(role) != pid

    def has_started(self, num_times: int) -> bool:
        return len(self.events("start")) == num_times

    def wait_until_up(self) -> None:
        assert self.supervisor.stdout
        assert self.supervisor.stdout.readline() == "UP\n"

    def end(self, *signals: signal.Signals) -> int:
        for number in signals:
            self.supervisor.send_signal(number)
        return self.supervisor.wait(60)

    def messages(self) -> str:
        assert self.supervisor.stderr
        return self.supervisor.stderr.read()


@contextmanager
def tree_of(home: Home, *stages: str) -> Iterator[Tree]:
    command = [sys.executable, str(ROOT / "tests/cli/local/standin_tree.py"), str(home.path), *stages]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as supervisor:
        try:
            yield Tree(home, supervisor)
        finally:
            supervisor.kill()
            wait_for(lambda: not processes_of(home))


def processes_of(home: Home) -> list[psutil.Process]:
    """What still runs of the home's tree, found without the supervisor's own means."""
    mark = load_credentials(home).home_id
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK_VARIABLE) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def is_alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def test_it_starts_in_order_and_stops_in_reverse(home: Home) -> None:
    with tree_of(home, "first", "migration=once", "left+right") as tree:
        tree.wait_until_up()
        started = tree.events("start")
        assert started[:2] == ["first", "migration"]
        assert sorted(started[2:]) == ["left", "right"]
        roles = {file.stem for file in home.run.glob("*.pid")}
        assert roles == {"warden", "first", "left", "right"}
        assert {tree.pid(role) for role in ("first", "left", "right")} < {pid for _, _, pid in tree.journal()}
        assert tree.end(signal.SIGTERM) == 0
        assert sorted(tree.events("stop")[:2]) == ["left", "right"]
        assert tree.events("stop")[2:] == ["first"]
        assert not list(home.run.glob("*.pid"))
        assert not processes_of(home)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_stop_it_in_order(home: Home, number: signal.Signals) -> None:
    with tree_of(home, "one") as tree:
        tree.wait_until_up()
        assert tree.end(number) == 0
        assert tree.events("stop") == ["one"]


def test_what_dies_is_started_again_and_said(home: Home) -> None:
    with tree_of(home, "server", "worker") as tree:
        tree.wait_until_up()
        for role in ("server", "worker", "warden"):
            old = tree.pid(role)
            os.kill(old, signal.SIGKILL)
            wait_for(partial(tree.has_other_pid, role, old))
        wait_for(lambda: sorted(tree.events("start")) == ["server", "server", "worker", "worker"])
        assert tree.end(signal.SIGTERM) == 0
        said = tree.messages()
        assert said.count("died (signal 9); starting it again in 0.5 s") == 3
        assert "worker is back" in said


def test_the_delay_grows_while_it_keeps_dying(home: Home) -> None:
    with tree_of(home, "worker") as tree:
        tree.wait_until_up()
        for num_starts in (1, 2, 3):
            wait_for(partial(tree.has_started, num_starts))
            os.kill(tree.journal()[-1][2], signal.SIGKILL)
        wait_for(partial(tree.has_started, 4))
        tree.end(signal.SIGTERM)
        said = tree.messages()
        assert [f"again in {delay} s" in said for delay in ("0.5", "1.0", "2.0")] == [True] * 3


def test_what_does_not_listen_is_killed_in_time(home: Home) -> None:
    with tree_of(home, "stubborn=ignore-term,brief") as tree:
        tree.wait_until_up()
        assert tree.end(signal.SIGTERM) == 0
        assert "killing stubborn" in tree.messages()
        assert not processes_of(home)


def test_a_second_ctrl_c_kills_at_once(home: Home) -> None:
    with tree_of(home, "polite", "stubborn=ignore-term,children") as tree:
        tree.wait_until_up()
        tree.supervisor.send_signal(signal.SIGINT)
        wait_for(lambda: "stopping stubborn" in (tree.supervisor.stderr.readline() if tree.supervisor.stderr else ""))
        assert tree.end(signal.SIGINT) == 130
        assert tree.events("stop") == []
        assert not processes_of(home)


@on_linux
def test_an_orderly_stop_leaves_no_grandchild(home: Home) -> None:
    with tree_of(home, "parent=children") as tree:
        tree.wait_until_up()
        hidden = [pid for _, event, pid in tree.journal() if event in ("grandchild", "daemon")]
        assert [is_alive(pid) for pid in hidden] == [True, True]
        assert tree.end(signal.SIGTERM) == 0
        assert [is_alive(pid) for pid in hidden] == [False, False]


@on_linux
def test_kill_9_of_the_supervisor_leaves_no_orphan(home: Home) -> None:
    with tree_of(home, "server", "parent=children,ignore-term") as tree:
        tree.wait_until_up()
        pids = [pid for _, _, pid in tree.journal()] + [tree.pid("warden")]
        assert len(pids) == 5
        assert all(map(is_alive, pids))
        assert tree.end(signal.SIGKILL) == -9
        wait_for(lambda: not any(map(is_alive, pids)))


@on_linux
def test_kill_9_of_supervisor_and_warden_is_made_good_by_the_next_start(home: Home) -> None:
    with tree_of(home, "parent=children") as tree:
        tree.wait_until_up()
        tree.supervisor.send_signal(signal.SIGSTOP)  # so that it cannot start the warden again
        os.kill(tree.pid("warden"), signal.SIGKILL)
        daemon = next(pid for _, event, pid in tree.journal() if event == "daemon")
        direct = next(pid for _, event, pid in tree.journal() if event == "start")
        tree.end(signal.SIGKILL)
        wait_for(lambda: not is_alive(direct))  # by the kernel alone
        assert is_alive(daemon)
        with tree_of(home, "parent") as successor:
            successor.wait_until_up()
            assert not is_alive(daemon)
            assert successor.end(signal.SIGTERM) == 0
            assert f"an earlier run had left: {daemon}" in successor.messages()


def test_a_second_one_on_the_same_home_is_refused(home: Home) -> None:
    with tree_of(home, "one") as tree:
        tree.wait_until_up()
        with tree_of_refused(home) as second:
            assert second.wait(60) == 2
            assert second.stderr
            assert f"already up in {home.path} (process {tree.supervisor.pid})" in second.stderr.read()
        assert is_alive(tree.pid("one"))
        assert tree.end(signal.SIGTERM) == 0


@contextmanager
def tree_of_refused(home: Home) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, str(ROOT / "tests/cli/local/standin_tree.py"), str(home.path), "other"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        yield process


def test_a_failure_at_the_start_shows_the_log_and_ends_the_rest(home: Home) -> None:
    with tree_of(home, "server", "migration=once,fail", "never") as tree:
        assert tree.supervisor.wait(60) == 1
        said = tree.messages()
        assert "migration ended at its start (exit code 1)" in said
        assert "the last words of migration" in said
        assert tree.events("stop") == ["server"]
        assert "never" not in tree.events("start")
        assert not processes_of(home)


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\xff\n" + b"".join(b"%d\n" % i for i in range(100_000)))
    assert tail(log, 2) == "99998\n99999"
    assert tail(tmp_path / "none") == ""
