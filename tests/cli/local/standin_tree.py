"""Runs a tree of stand-ins as `atelier up` runs the real one; run as a script with a home and flags by name.

standin_tree.py HOME NAME[=FLAG,FLAG]... : one stage per name, or several names joined by "+" in one stage.
"""

import logging
import os
import sys
from pathlib import Path

from cli.errors import CommandError
from cli.local.home import lock_home, open_home
from cli.local.supervisor.service import Service
from cli.local.supervisor.supervisor import run_tree
from cli.local.supervisor.warden import warden_service

ROOT = Path(__file__).parents[3]


def main(home_path: str, *stages: str) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    home = open_home(Path(home_path))
    env = {key: os.environ[key] for key in ("PATH", "PYTHONPATH") if key in os.environ}

    journal = home.path / "journal"
    journal.touch()

    def service(spec: str) -> Service:
        name, _, flags = spec.partition("=")
        words = ["--" + flag for flag in flags.split(",") if flag]
        return Service(
            name,
            (sys.executable, str(Path(__file__).with_name("standin.py")), name, str(journal), *words),
            env,
            ready=lambda: f"{name} start " in journal.read_text(),
            once="--once" in words,
            stop_timeout_seconds=1 if "--brief" in words else 30,
        )

    tree = [[warden_service(home, ROOT, env)], *([service(spec) for spec in stage.split("+")] for stage in stages)]
    try:
        with lock_home(home):
            return run_tree(home, tree, on_up=lambda: print("UP", flush=True))
    except CommandError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
