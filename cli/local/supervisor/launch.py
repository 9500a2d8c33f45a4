"""Becomes a service: gives up root, ties its life to its parent's, then executes the service's program.

Run as a script with the parent's pid, the signal to get when the parent dies, the account (``uid:gid`` or
``-``) and the command. A program of its own rather than a ``preexec_fn``: nothing of the parent's state is
in the way between fork and exec. Standard library only; it starts in some 20 ms.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38


def main(parent_pid: str, death_signal: str, account: str, *command: str) -> None:
    if account != "-":
        give_up_root(*map(int, account.split(":")))
    # After the change of user, which clears the death signal (prctl(2)).
    die_with_parent(int(parent_pid), signal.Signals(int(death_signal)))
    # Python ignores SIGPIPE, and a shell's background job ignores SIGINT; both would be inherited.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o077)
    os.execv(command[0], command)  # noqa: S606


def give_up_root(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if sys.platform == "linux":
        _prctl(PR_SET_NO_NEW_PRIVS, 1)


def die_with_parent(parent_pid: int, death_signal: signal.Signals) -> None:
    """Linux only; elsewhere the warden alone ends a tree whose supervisor died."""
    if sys.platform == "linux":
        _prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent_pid:
        sys.exit("the supervisor died while this process started")


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
