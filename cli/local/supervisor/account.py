"""The unprivileged user that a service started by root changes to."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int

    def reaches(self, *paths: Path) -> bool:
        """Whether this user, coming from the root folder, can enter each folder and read each file.

        Asked of the kernel, not computed from modes: access lists and mounts count too.
        """
        script = 'for p; do if [ -d "$p" ]; then [ -x "$p" ] || exit 1; else [ -r "$p" ] || exit 1; fi; done'
        return self.run(["/bin/sh", "-c", script, "sh", *map(str, paths)]).returncode == 0

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Runs a short command as this user, without root's groups and environment."""
        return subprocess.run(
            command, user=self.uid, group=self.gid, extra_groups=[], cwd="/", env={"LC_ALL": "C"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def own(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid, follow_symlinks=False)
