"""The locks: each says by version and hash what its installation takes, all agree, and none has fallen behind."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.containers.test_dockerfiles import ROOT, TENSORS, closure, normalised

LOCKS = sorted((ROOT / "requirements").glob("*.txt"), key=lambda path: path.stem)
EXTRAS = {"api": set[str](), "gpu": {"train", "cuda"}, "local": {"train", "embedded"}}
EXTRAS["tests"] = {*EXTRAS["local"], "test", "check"}
LEFT_TO_PIP = {"torch"}
"""By `make install`: which build is right depends on the machine."""


def read_lock(path: Path) -> dict[str, Version]:
    """Name -> version, of every platform. Asserts that each line is a version with SHA-256 hashes and no more."""
    versions: dict[str, Version] = {}
    for entry in path.read_text().replace(" \\\n", " ").splitlines():
        requirement, *hashes = entry.split(" --hash=")
        assert hashes, entry
        assert all(each.strip().startswith("sha256:") for each in hashes), entry
        (pin,) = (parsed := Requirement(requirement)).specifier
        assert pin.operator == "==" and Version(pin.version).local is None, entry
        versions[normalised(parsed.name)] = Version(pin.version)
    return versions


def test_there_is_a_lock_for_each_installation() -> None:
    assert {path.stem for path in LOCKS} == set(EXTRAS)


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_has_what_the_project_asks_for(path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *(project["optional-dependencies"][name] for name in EXTRAS[path.stem])]
    locked = read_lock(path)
    for requirement in (Requirement(line) for group in groups for line in group):
        name = normalised(requirement.name)
        if name not in LEFT_TO_PIP or path.stem == "gpu":
            assert requirement.specifier.contains(locked[name]), f"{requirement}, and locked is {locked[name]}"


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_a_lock_has_what_those_need(path: Path) -> None:
    """By the packages that are installed here, for this platform."""
    needed = closure("atelier", frozenset(EXTRAS[path.stem])) - {"atelier", "bitsandbytes"}
    assert needed - set(read_lock(path)) <= (set() if path.stem == "gpu" else LEFT_TO_PIP)


def test_the_locks_agree() -> None:
    known: dict[str, Version] = {}
    for path in LOCKS:
        for name, version in read_lock(path).items():
            assert known.setdefault(name, version) == version, f"{name} in {path.name}"


def test_only_the_image_that_trains_has_tensors_and_torch_is_the_one_of_the_project() -> None:
    locked = {path.stem: read_lock(path) for path in LOCKS}
    assert not set(locked["api"]) & TENSORS
    assert str(locked["gpu"]["torch"]) == "2.13.0"
    assert "torch==2.13.0" in (ROOT / "Dockerfile.gpu").read_text()
