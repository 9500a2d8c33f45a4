"""What README and the guides print works as printed."""

import os
import re
import shlex
import subprocess
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import atelier_client.client
from cli.main import app
from tests.fixtures.client import write
from tests.fixtures.pictures import png
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ADAPTER, ScriptedJob, register_scripted_model

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CLIENT_README = ROOT / "clients/python/README.md"
GUIDES = (README, ROOT / "docs" / "bases.md", ROOT / "docs" / "adapters.md")
PRINTED_URL = "http://127.0.0.1:8000"


def list_blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def find_block(language: str, mark: str, path: Path = README) -> str:
    (block,) = [block for block in list_blocks(path, language) if mark in block]
    return block


@pytest.fixture
def workplace(running_api: RunningApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as README's reader has it: the key in the home, pictures beside it."""
    register_scripted_model(running_api)
    write(tmp_path, {".atelier/admin.key": f"{running_api.api_key}\n".encode()})
    write(tmp_path / "examples/blip", {f"{number}.png": png(number, 96, 96) for number in range(3)})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_shell(script: str, url: str) -> "subprocess.CompletedProcess[str]":
    """As pasted into a shell that goes on after an error, as they all do."""
    return subprocess.run(
        ["bash", "-c", script.replace(PRINTED_URL, url)], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.usefixtures("validator", "trainer")
def test_the_python_example_runs_as_printed(
    workplace: Path, running_api: RunningApi, capsys: pytest.CaptureFixture[str]
) -> None:
    example = find_block("python", "with AtelierClient")
    exec(compile(example.replace(PRINTED_URL, running_api.url), "README.md", "exec"), {})
    assert (workplace / "blip.safetensors").read_bytes() == ADAPTER
    said = capsys.readouterr().out
    assert "job.succeeded" in said and "training, step" in said
    assert len(max(said.splitlines(), key=len)) < 200, "an update prints as one short line"


@pytest.mark.usefixtures("validator", "trainer")
def test_the_asynchronous_example_runs_as_printed(workplace: Path, running_api: RunningApi) -> None:
    example = find_block("python", "AsyncAtelierClient", CLIENT_README)
    exec(compile(example.replace(PRINTED_URL, running_api.url), "README.md", "exec"), {})
    assert (workplace / "blip.safetensors").read_bytes() == ADAPTER


def test_the_client_and_its_readme_show_the_same_example() -> None:
    assert atelier_client.client.__doc__ is not None
    shown = textwrap.dedent(atelier_client.client.__doc__.partition("\n\n")[2])
    printed = find_block("python", "with AtelierClient")
    assert shown.strip() == printed.strip()
    assert find_block("python", "with AtelierClient", CLIENT_README) == printed


@pytest.mark.usefixtures("validator", "trainer")
def test_the_curl_example_runs_as_printed(workplace: Path, running_api: RunningApi) -> None:
    done = run_shell(find_block("sh", "curl"), running_api.url)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^dataset ds_\w{26} is ready$", done.stdout, re.MULTILINE)
    assert "event: job.succeeded" in done.stdout
    assert (workplace / "blip.safetensors").read_bytes() == ADAPTER
    assert done.stderr == ""


@pytest.mark.usefixtures("validator")
def test_the_curl_example_ends_when_a_dataset_is_rejected(workplace: Path, running_api: RunningApi) -> None:
    for path in (workplace / "examples/blip").iterdir():
        path.write_bytes(png(7)[:200])
    done = run_shell(find_block("sh", "curl"), running_api.url)
    assert "is rejected" in done.stdout
    assert done.returncode != 0
    assert not (workplace / "blip.safetensors").exists()


def test_the_curl_example_writes_no_error_into_the_adapters_file(workplace: Path, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    head, last = find_block("sh", "curl").split("# Upload", 1)[0], find_block("sh", "curl").strip().splitlines()[-1]
    done = run_shell(f"{head}\nJOB={job.id}\n{last}", running_api.url)
    assert done.returncode == 22, "curl's own code for an answer of 400 or more"
    assert not (workplace / "blip.safetensors").exists()


def test_the_curl_example_needs_no_newer_curl_than_it_says() -> None:
    """--json came with 7.82, --fail-with-body with 7.76, --retry-all-errors with 7.71."""
    assert not re.search(r"--(json|fail-with-body|retry-all-errors|output-dir|variable)\b", README.read_text())


def list_command_lines() -> Iterator[tuple[str, list[str]]]:
    for path in GUIDES:
        for block in list_blocks(path, "sh"):
            for line in block.splitlines():
                words = shlex.split(line, comments=True) if re.match(r"([A-Z_]+=\S+ )*atelier ", line) else []
                while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                    words = words[1:]
                if words and words[0] == "atelier":
                    yield f"{path.name}: {line}", words[1:]


@pytest.mark.parametrize(
    ("line", "words"), list(list_command_lines()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_in_the_guides_is_there_with_its_options(line: str, words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    known = {option for param in command.params for option in param.opts}
    assert {word for word in words if word.startswith("--")} <= known
    values = sum(word.startswith("--") and word != "--help" for word in words)
    num_arguments, arguments = len(words) - 2 * values, [p for p in command.params if p.param_type_name == "argument"]
    takes_several = any(argument.nargs == -1 for argument in arguments)
    assert num_arguments == len(arguments) or (takes_several and num_arguments > len(arguments)), line


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_links_and_pictures_are_there(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", path.read_text())
    missing = [link for link in targets if not link.startswith("http") and not (path.parent / link).exists()]
    assert missing == []


def test_the_licence_is_named_where_tools_look_for_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()
    assert "Noto Color Emoji" in (ROOT / "NOTICE").read_text()
    for name in project["license-files"]:
        assert (ROOT / name).is_file()
        for image in ("Dockerfile.api", "Dockerfile.gpu"):
            assert re.search(rf"^COPY pyproject\.toml .*\b{name}\b", (ROOT / image).read_text(), re.MULTILINE)
        assert f"!{name}" in (ROOT / ".dockerignore").read_text().splitlines(), os.fspath(ROOT / ".dockerignore")
