"""Fixtures that every test may use."""

import gc
import os
import sys
import tempfile
from pathlib import Path

import certifi
import pytest
from hypothesis import settings

# Test processes and their services run side by side: threads that wait for each other at every operation, and a core
# for none of them, would take several times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ATELIER_CPU_THREADS", "1")

# An HTTP client that heeds the environment reads the certificates that it trusts, though nothing here is signed by any
# of them: one is read in a fortieth of the time that all take. Programs and the processes of pytest-xdist inherit it.
_trusted = tempfile.NamedTemporaryFile("w", suffix=".pem")  # noqa: SIM115 - lives as long as this process
_trusted.write(Path(certifi.where()).read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n")
_trusted.flush()
os.environ["SSL_CERT_FILE"] = _trusted.name  # also where the environment names all of the system's

# A hundred programs are started from this source, and each process of the tests reads all test modules: they are
# compiled once, whatever the environment says.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

gc.disable()  # imports make a million objects to be kept: looking through them meanwhile takes a fifth of the time

pytest_plugins = [
    "tests.fixtures.broker",
    "tests.fixtures.database",
    "tests.fixtures.stores",
    "tests.fixtures.warm_programs",
]


@pytest.fixture(scope="session", autouse=True)
def _collect_only_what_tests_make() -> None:
    """The engine collects garbage each time that it drops a network. What a million objects of imported libraries are
    looked at for, each time, is most of a small test's time."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _keep_what_tests_read() -> None:
    """As above, for the tables and modules that the tests of other files have read since."""
    gc.collect()
    gc.freeze()


settings.register_profile("untimed", deadline=None)  # a loaded machine is no bug
settings.load_profile("untimed")
