"""The commands as a person or a script runs them: what is printed where, what is written, the exit codes."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from atelier_client import AtelierClient, Selection, select_files
from cli.local.supervisor.service import launcher_command
from cli.specs import read_spec
from cli.training import dataset_name, file_name
from core.domain.states import Phase
from tests.cli.conftest import Atelier
from tests.fixtures.pictures import png
from tests.fixtures.running_api import RunningApi
from tests.fixtures.scripted_job import ADAPTER, MODEL, ScriptedJob, register_scripted_model


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "my fox"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(png(number, 96, 96))
    return folder


def lines_of(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.usefixtures("validator", "trainer")
def test_train_leaves_the_adapter_and_the_grid_in_out(atelier: Atelier, images: Path, tmp_path: Path) -> None:
    result = atelier("train", images, "--model", MODEL.id, "--trigger", "zap", "--steps", 40)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "zap.safetensors").read_bytes() == ADAPTER
    assert (tmp_path / "out" / "zap-grid.png").read_bytes().startswith(b"\x89PNG")
    assert "5 images" in result.stdout
    assert "40/40  loss 0." in result.stdout
    assert "out/zap.safetensors" in result.stdout
    assert "succeeded" in result.stdout
    assert result.stderr == ""


@pytest.mark.usefixtures("validator", "trainer")
def test_a_kohya_folder_says_repeats_and_captions_as_path_too(atelier: Atelier, images: Path, tmp_path: Path) -> None:
    images.rename(tmp_path / "3_robot")
    result = atelier("train", "3_robot", "--model", MODEL.id, "--steps", 20, "--name", "r")
    assert result.exit_code == 0, result.output
    assert '"3_robot" is read in kohya\'s layout: 5 images (3 repeats each; "robot" as the caption' in result.stdout


@pytest.mark.usefixtures("validator", "trainer")
def test_a_dataset_is_named_after_what_was_sent_and_the_job_after_the_trigger(
    atelier: Atelier, client: AtelierClient, images: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "foxes v1.5.tar.gz", "w:gz") as packed:
        packed.add(images, ".")
    for path in (images, tmp_path / "foxes v1.5.tar.gz"):
        assert atelier("train", path, "--model", MODEL.id, "--trigger", "zap", "--steps", 20).exit_code == 0
    assert sorted(dataset.name or "" for dataset in client.list_datasets()) == ["foxes v1.5", "my fox"]
    assert {job.name for job in client.list_jobs()} == {"zap"}


def test_a_datasets_name_has_only_what_the_service_takes() -> None:
    assert dataset_name(Selection((), name="a\nb\udce9\x1b")) == "a b"
    assert dataset_name(Selection((), name="ö" * 300)) == "ö" * 200
    assert dataset_name(Selection((), name="")) is None


@pytest.mark.usefixtures("validator", "trainer")
def test_with_json_every_line_is_a_document(atelier: Atelier, images: Path, tmp_path: Path) -> None:
    (images / "notes.pdf").write_text("x")
    result = atelier("train", images, "--model", MODEL.id, "--trigger", "zap", "--out", "there", "--json")
    assert result.exit_code == 0, result.output
    said = {line["event"]: line for line in lines_of(result)}
    assert said["skipped"]["files"] == ["notes.pdf"]
    assert said["dataset"]["report"]["num_images"] == 5
    assert said["adapter"]["path"] == "there/zap.safetensors"
    assert said["adapter"]["sha256"] == hashlib.sha256((tmp_path / "there/zap.safetensors").read_bytes()).hexdigest()
    assert said["done"]["status"] == "succeeded"
    assert said["progress"]["step"] == said["progress"]["num_steps"]
    assert said["job.phase"]["created_at"].endswith("Z")
    assert result.stderr == ""


@pytest.mark.usefixtures("validator", "trainer")
@pytest.mark.parametrize(
    ("file", "content"), [("s.json", '{"steps": 30, "seed": 1}'), ("s.yaml", "steps: 30\nseed: 1\nadapter: {rank: 2}")]
)
def test_options_win_over_the_spec(atelier: Atelier, images: Path, tmp_path: Path, file: str, content: str) -> None:
    (tmp_path / file).write_text(content)
    result = atelier("train", images, "--model", MODEL.id, "--trigger", "z", "--spec", file, "--seed", 7, "--json")
    assert result.exit_code == 0, result.output
    shown = lines_of(atelier("show", lines_of(result)[-1]["job"], "--json"))[0]
    assert (shown["plan"]["steps"], shown["plan"]["seed"]) == (30, 7)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("s.json", "{", "s.json is not valid JSON: line 1, column 2: "),
        (
            "s.yaml",
            "a: [",
            "s.yaml is not valid YAML: line 1, column 5: a value is missing, or a bracket is not closed.",
        ),
        ("s.yaml", "a:\n\tb: 1", "not valid YAML: line 2, column 1: this is a tab: indent with spaces."),
        ("s.yaml", "a: 1\n  b: 2", "line 2, column 4: a colon is not expected here: check the indentation"),
        ("s.yaml", 'a: "b', "line 1, column 6: a quote is not closed."),
        ("s.yaml", "a: !!set {b}", "it may contain only text, numbers"),
        ("s.yaml", "a: " + "[" * 5000, "nested too deeply"),
        ("s.yaml", "- a", "must hold an object"),
        ("s.yaml", "dataset: ds_1", "take `dataset` out"),
        ("s.yaml", "\x00", "it contains the control character '\\x00'."),
        ("s.yaml", "optimizer: {learning_rate: .nan}", "a number is NaN or infinite"),
        ("s.json", '{"optimizer": {"learning_rate": NaN}}', "a number is NaN or infinite"),
    ],
)
def test_a_bad_spec_is_a_usage_error_before_anything_is_sent(
    atelier: Atelier, images: Path, file: str, content: str, message: str
) -> None:
    Path(file).write_text(content)
    result = atelier("train", images, "--spec", file)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "while " not in result.stderr, "the parser's own words"
    assert "Uploading" not in result.stdout
    assert atelier("jobs", "--json").stdout == ""


def test_where_the_adapter_is_to_go_is_looked_at_before_anything_is_sent(atelier: Atelier, images: Path) -> None:
    Path("taken").write_text("a file")
    result = atelier("train", images, "--out", "taken/out")
    assert result.exit_code == 2
    assert "taken/out for the adapter cannot be made: Not a directory" in result.stderr
    assert atelier("datasets", "--json").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "nowhere"), "There is no folder or file nowhere"),
        (("train", "."), "holds no image"),
        (("train", "x", "--spec", "nowhere.json"), "cannot be read"),
        (("show", "job_0"), "There is no job job_0"),
        (("jobs", "--status", "sleeping"), "status"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(
    atelier: Atelier, arguments: tuple[str, ...], message: str
) -> None:
    result = atelier(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("validator")
def test_a_dry_run_shows_the_plan_and_makes_no_job(
    atelier: Atelier, client: AtelierClient, running_api: RunningApi, images: Path
) -> None:
    register_scripted_model(running_api)
    (images / "bad.png").write_bytes(png(7)[:200])
    command = ("train", images, "--model", MODEL.id, "--trigger", "zap", "--steps", 40, "--dry-run")
    result = atelier(*command)
    assert result.exit_code == 0, result.output
    (dataset,) = client.list_datasets()
    assert "bad.png was left out" in result.stdout
    assert f"Plan on {MODEL.id}: adapter_type lora, rank " in result.stdout and "steps 40" in result.stdout
    assert "time:     not known (nothing was measured on this base yet)" in result.stdout
    assert re.search(r"adapter:  \d+\.\d MB", result.stdout)
    assert f"No job was made. The images are uploaded, as dataset {dataset.id}" in result.stdout
    assert list(client.list_jobs()) == [] and not Path("out").exists()
    said = lines_of(atelier(*command, "--json"))[-1]
    assert (said["event"], said["dataset"], said["plan"]["steps"]) == ("plan", dataset.id, 40)
    assert said["estimate"]["steps"] == 40
    assert len(list(client.list_datasets())) == 1


def test_a_spec_that_the_service_refuses_names_the_field_before_anything_is_sent(
    atelier: Atelier, client: AtelierClient, running_api: RunningApi, images: Path
) -> None:
    register_scripted_model(running_api)
    Path("s.yaml").write_text("adapter: {ranks: 4}")
    result = atelier("train", images, "--model", MODEL.id, "--trigger", "z", "--spec", "s.yaml")
    assert result.exit_code == 2
    assert result.stderr == "Error: adapter.ranks: there is no such field; did you mean adapter.rank?\n"
    assert list(client.list_datasets()) == []
    Path("s.yaml").write_text("{a: 1, b: 1, c: 1, d: 1}")
    result = atelier("train", images, "--model", MODEL.id, "--trigger", "z", "--spec", "s.yaml")
    assert result.stderr.count("there is no such field") == 4, "the detail names three"


def test_options_that_do_not_fit_each_other_are_refused_before_anything_is_sent(
    atelier: Atelier, client: AtelierClient, running_api: RunningApi, images: Path
) -> None:
    register_scripted_model(running_api)
    Path("s.yaml").write_text("{steps: 50, schedule: {warmup_steps: 50}}")
    result = atelier("train", images, "--model", MODEL.id, "--trigger", "z", "--spec", "s.yaml")
    assert result.exit_code == 2
    assert "schedule.warmup_steps is 50: it must be less than the 50 steps" in result.stderr
    assert list(client.list_datasets()) == []


@pytest.mark.usefixtures("validator", "trainer")
def test_words_of_yaml_stay_words(atelier: Atelier, images: Path) -> None:
    Path("s.yaml").write_text("steps: 30\nevaluation: off\nflip: true\nname: 2026-01-31")
    result = atelier("train", images, "--model", MODEL.id, "--trigger", "z", "--spec", "s.yaml", "--json")
    assert result.exit_code == 0, result.output
    shown = lines_of(atelier("show", lines_of(result)[-1]["job"], "--json"))[0]
    assert (shown["plan"]["evaluation"], shown["plan"]["flip"]) == (False, True)
    assert Path("out/2026-01-31.safetensors").exists()


def test_powers_of_ten_in_yaml_are_numbers(tmp_path: Path) -> None:
    """The service takes no text for a number, and YAML 1.1 takes `1e-4` for text."""
    spec = tmp_path / "s.yaml"
    spec.write_text("optimizer: {learning_rate: 1e-4, weight_decay: 1.E-2}\nsteps: 3e2\nname: 1e4a")
    assert read_spec(spec) == {
        "optimizer": {"learning_rate": 0.0001, "weight_decay": 0.01}, "steps": 300.0, "name": "1e4a"
    }  # fmt: skip


@pytest.mark.usefixtures("validator", "trainer")
def test_a_finished_job_shows_what_came_of_it(atelier: Atelier, images: Path) -> None:
    assert atelier("train", images, "--model", MODEL.id, "--trigger", "zap", "--steps", 40).exit_code == 0
    job = lines_of(atelier("jobs", "--json"))[0]
    shown = atelier("show", job["id"]).stdout
    assert f"{job['result']['adapter_id']} kohya (0.0 MB) diffusers (0.0 MB)" in shown


@pytest.mark.usefixtures("validator")
def test_datasets_are_listed_and_deleted(atelier: Atelier, client: AtelierClient, images: Path) -> None:
    assert "no datasets yet" in atelier("datasets").stdout
    sent = client.upload_dataset(select_files(images), name="foxes")
    client.wait_for_dataset(sent.id)
    table = atelier("datasets").stdout
    assert sent.id in table and "foxes" in table and "ready" in table
    assert [line["num_images"] for line in lines_of(atelier("datasets", "list", "--json"))] == [5]
    assert [line["num_images"] for line in lines_of(atelier("datasets", "--json"))] == [5]
    assert "goes behind `list`" in atelier("datasets", "--json", "list").stderr
    (row,) = [line for line in table.splitlines() if sent.id in line]
    assert row.rstrip().endswith("ago") and "foxes" in row, "one line where another program reads it"
    assert atelier("datasets", "delete", sent.id).exit_code == 0
    assert list(client.list_datasets()) == []
    assert atelier("datasets", "delete", "../jobs").exit_code == 2


def test_a_failed_job_is_exit_code_1_with_what_to_do(atelier: Atelier, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    job.start()
    job.fail()
    result = atelier("watch", job.id)
    assert result.exit_code == 1
    assert "The loss became NaN" in result.stderr
    assert "Lower optimizer.learning_rate" in result.stderr


def test_watching_a_finished_job_says_how_to_get_its_file(atelier: Atelier, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api)
    job.run_to_the_end()
    watched = atelier("watch", job.id[:-10])
    assert watched.exit_code == 0
    assert f"atelier download {job.id}" in watched.stdout
    assert f"Job {job.id} succeeded" in watched.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "images", "--trigger", "z", "--steps", -5), "--steps: "),
        (("train", "images", "--trigger", "z", "--seed", -1), "--seed: "),
        (("train", "images", "--trigger", "z", "--name", "x" * 300), "--name: "),
        (("train", "images", "--trigger", "z", "--model", "nope"), "There is no model nope"),
        (("jobs", "--status", "sleeping"), "--status: "),
        (("keys", "create", "x", "--scope", "root"), "--scope: "),
        (("keys", "create", ""), "NAME: "),
        (("adapters", "import", "images/0.png", "--model", "nope"), "There is no model nope"),
    ],
)
def test_fields_are_named_as_they_were_typed(
    atelier: Atelier, images: Path, arguments: tuple[Any, ...], message: str
) -> None:
    images.rename("images")
    result = atelier(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not re.search(r"(^|\s)/\w", result.stderr), "no JSON pointers"


def test_a_field_of_the_spec_file_is_named_as_it_stands_there(
    atelier: Atelier, running_api: RunningApi, images: Path
) -> None:
    register_scripted_model(running_api)
    Path("s.yaml").write_text("steps: -5\nsamples: {prompts: [a, '']}\nadapter: {rank: 0}")
    error = atelier("train", images, "--model", MODEL.id, "--trigger", "z", "--spec", "s.yaml").stderr
    assert "steps: " in error and "--steps" not in error
    assert "adapter.rank: " in error


def test_a_prefix_of_an_id_is_enough_everywhere(
    atelier: Atelier, client: AtelierClient, running_api: RunningApi
) -> None:
    job = ScriptedJob(running_api, name="fox")
    short, dataset = job.id[:-12], job.dataset_id[:-12]
    assert job.id in atelier("show", short).stdout
    assert atelier("pause", short).stdout == f"Job {job.id} is paused.\n"
    assert atelier("resume", short.removeprefix("job_")).stdout == f"Job {job.id} is queued.\n"
    job.run_to_the_end()
    assert atelier("download", short).exit_code == 0
    adapter = next(client.list_adapters()).id
    assert adapter in atelier("adapters", "show", adapter[:-12]).stdout
    assert atelier("delete", short).stdout == f"Job {job.id} is deleted.\n"
    assert atelier("datasets", "delete", dataset).stdout == f"Dataset {job.dataset_id} is deleted.\n"
    key = client.create_key("ci")
    assert atelier("keys", "revoke", key.id[:-12]).stdout == f"Key {key.id} is revoked.\n"
    assert json.loads(atelier("models", "show", MODEL.id[:4], "--json").stdout)["id"] == MODEL.id
    assert atelier("jobs", "--model", MODEL.id[:4]).exit_code == 0


def test_jobs_are_listed_shown_paused_resumed_and_canceled(atelier: Atelier, running_api: RunningApi) -> None:
    assert "There are no jobs yet" in atelier("jobs").stdout
    job = ScriptedJob(running_api, name="fox")
    other = ScriptedJob(running_api, priority=-1)
    job.start()
    job.enter(Phase.TRAINING)
    job.train_to(25)
    table = atelier("jobs").stdout
    assert job.id in table
    assert "fox" in table
    assert "25/100" in table
    assert "training" in table
    assert [line["id"] for line in lines_of(atelier("jobs", "--limit", 1, "--json"))] == [other.id]
    assert "25/100  loss" in atelier("show", job.id).stdout
    assert atelier("pause", other.id).stdout == f"Job {other.id} is paused.\n"
    assert atelier("resume", other.id).stdout == f"Job {other.id} is queued.\n"
    assert atelier("cancel", other.id).stdout == f"Job {other.id} is canceled.\n"
    again = atelier("resume", other.id)
    assert again.exit_code == 1
    assert "only a paused job can be resumed" in again.stderr
    assert atelier("delete", other.id).stdout == f"Job {other.id} is deleted.\n"
    assert atelier("show", other.id).exit_code == 2


def test_models_are_listed(atelier: Atelier, running_api: RunningApi) -> None:
    ScriptedJob(running_api)
    assert MODEL.id in atelier("models").stdout
    assert MODEL.id in [line["id"] for line in lines_of(atelier("models", "--json"))]


def test_an_adapter_is_downloaded_later_in_either_format(atelier: Atelier, running_api: RunningApi) -> None:
    job = ScriptedJob(running_api, name="my/fox ../..")
    assert atelier("download", job.id).exit_code == 1
    job.run_to_the_end()
    assert atelier("download", job.id).exit_code == 0
    assert atelier("download", job.id, "--format", "diffusers", "--out", "o").exit_code == 0
    assert Path("out/my-fox.safetensors").read_bytes() == ADAPTER
    assert Path("o/my-fox-diffusers.safetensors").read_bytes() == ADAPTER[::-1]
    for grid in ("out/my-fox-grid.png", "o/my-fox-grid.png"):
        assert Path(grid).read_bytes().startswith(b"\x89PNG"), "as `train` names it"
    assert atelier("download", job.id, "--format", "onnx").exit_code == 2


def test_what_comes_from_elsewhere_does_not_steer_the_terminal(atelier: Atelier, running_api: RunningApi) -> None:
    job = ScriptedJob(
        running_api, name="[bold]fox[/bold] \N{LATIN SMALL LETTER E WITH ACUTE} \x9b2J".replace("\x9b", "x")
    )
    assert "[bold]fox[/bold]" in atelier("jobs").stdout
    assert "[bold]fox[/bold]" in atelier("show", job.id).stdout


def test_a_wrong_key_is_answered_with_where_the_right_one_is(atelier: Atelier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_API_KEY", "atl_wrong")
    result = atelier("jobs")
    assert result.exit_code == 2
    assert "ATELIER_API_KEY" in result.stderr


def test_no_service_is_exit_code_1_with_what_to_do(atelier: Atelier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_URL", "http://127.0.0.1:1")
    result = atelier("jobs", "--json")
    assert result.exit_code == 1
    assert lines_of(result)[0]["event"] == "error"
    assert "atelier up" in lines_of(result)[0]["message"]


def test_a_service_of_another_home_may_be_meant(atelier: Atelier, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ATELIER_URL", "ATELIER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("cli.connection.DEFAULT_URL", "http://127.0.0.1:1")
    assert "set ATELIER_HOME" in atelier("jobs").stderr
    monkeypatch.setenv("ATELIER_HOME", "elsewhere")
    assert "set ATELIER_HOME" not in atelier("jobs").stderr


@pytest.fixture
def watching(running_api: RunningApi) -> Iterator[tuple[ScriptedJob, "subprocess.Popen[str]"]]:
    job = ScriptedJob(running_api)
    job.start()
    env = {**os.environ, "ATELIER_URL": running_api.url, "ATELIER_API_KEY": running_api.api_key}
    command = (sys.executable, "-P", "-m", "cli.main", "watch", job.id)
    command = launcher_command(
        command, None, signal.SIGKILL
    )  # signals as a terminal gives them, whoever runs the tests
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield job, process
        process.kill()


def test_ctrl_c_leaves_the_job_alone_and_says_how_to_go_on(
    watching: tuple[ScriptedJob, "subprocess.Popen[str]"], atelier: Atelier
) -> None:
    job, process = watching
    job.enter(Phase.TRAINING)
    job.train_to(10)
    assert process.stdout
    while "10/100" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130
    assert f"job {job.id} goes on" in output
    assert f"atelier watch {job.id}" in output
    assert f"atelier download {job.id}" in output
    assert f"atelier cancel {job.id}" in output
    assert errors == ""
    assert lines_of(atelier("show", job.id, "--json"))[0]["status"] == "running"


def test_a_name_in_letters_of_several_bytes_still_names_a_file(tmp_path: Path) -> None:
    for name in ("\N{CJK UNIFIED IDEOGRAPH-72D7}" * 200, "../a b", "..."):
        file = tmp_path / f".{file_name(name)}.safetensors.01234567.part"
        file.touch()
        assert file.parent == tmp_path
