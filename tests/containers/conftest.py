"""The files of the containers, read as their tools read them."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    """docker-compose.yml with its anchors resolved; variables stay as they are written."""
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.fixture(scope="session")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"]


@dataclass(frozen=True)
class Instruction:
    name: str
    arguments: str


@dataclass(frozen=True)
class Dockerfile:
    """``instructions`` in order, continued lines joined."""

    path: Path
    instructions: tuple[Instruction, ...]

    def all(self, name: str) -> list[str]:
        return [each.arguments for each in self.instructions if each.name == name]

    def final_stage(self) -> "Dockerfile":
        last = max(place for place, each in enumerate(self.instructions) if each.name == "FROM")
        return Dockerfile(self.path, self.instructions[last:])


@pytest.fixture(params=["Dockerfile.api", "Dockerfile.gpu"])
def dockerfile(request: pytest.FixtureRequest) -> Dockerfile:
    return read_dockerfile(ROOT / request.param)


def read_dockerfile(path: Path) -> Dockerfile:
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
    return Dockerfile(path, tuple(Instruction(name, " ".join(rest.split())) for name, rest in pairs))
