"""The GPU check itself, on the CPU with small shapes; and what becomes of parts that fail or take too long."""

import json
from pathlib import Path

import pytest
import torch

from bench.gpu.parts import Budget, Part, list_parts, run_part
from bench.gpu.report import write_report
from bench.gpu.rows import Cell, CheckRow, StepRow
from bench.gpu.steps import Stepper
from bench.gpu_check import main
from tests.fixtures.true_bases import write_true_base

ROW = CheckRow(name="something", ok=True, detail="as promised")
PROGRAMS = {
    "part_good": f"print('a line of a library'); print('''{ROW.model_dump_json()}''')",
    "part_bad": f"import sys; print('''{ROW.model_dump_json()}'''); sys.exit('no kernel image')",
    "part_slow": f"import time; print('''{ROW.model_dump_json()}''', flush=True); time.sleep(600)",
}


@pytest.fixture(autouse=True)
def _programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in PROGRAMS.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_a_part_gives_its_rows(tmp_path: Path) -> None:
    ran = run_part(Part("one", ["part_good"], 0), Budget(60), tmp_path / "log")
    assert (ran.status, ran.rows, ran.error) == ("done", [ROW], None)


def test_the_rows_of_a_part_that_fails_are_kept_and_its_log_is_shown(tmp_path: Path) -> None:
    ran = run_part(Part("one", ["part_bad"], 0), Budget(60), tmp_path / "log")
    assert (ran.status, ran.rows) == ("failed", [ROW])
    assert ran.error == "exit code 1: no kernel image"


def test_a_part_ends_with_the_time_and_the_next_is_not_begun(tmp_path: Path) -> None:
    budget = Budget(2)
    ran = run_part(Part("one", ["part_slow"], 0), budget, tmp_path / "log")
    assert (ran.status, ran.rows) == ("out of time", [ROW]) and ran.seconds < 30
    skipped = run_part(Part("two", ["part_good"], 5), budget, tmp_path / "log")
    assert skipped.status == "skipped" and skipped.error == "0 s were left, and it takes about 5 s"


def test_the_parts_name_programs_that_exist() -> None:
    parts = list_parts({"sd15": Path("sd15"), "sdxl": Path("sdxl")}, "cuda", small=False, num_steps=5)
    modules = {part.arguments[0] for part in parts}
    assert all(Path(*module.split(".")).with_suffix(".py").is_file() for module in modules)
    assert sum(part.needs_seconds for part in parts) <= 480
    assert {part.after for part in parts} == {None, "trace sd15", "trace sdxl"}


def test_steps_are_timed_in_each_way_and_a_failure_is_a_row(tmp_path: Path) -> None:
    write_true_base(tmp_path / "sd15", shapes="small")
    stepper = Stepper(tmp_path / "sd15", torch.device("cpu"), 2, tmp_path)
    plain = stepper.measure(Cell(resolution=64, batch=1))
    saved = stepper.measure(Cell(resolution=64, batch=1, checkpointing=True))
    assert plain.error is None and plain.seconds is not None and plain.seconds[1] > 0
    assert (plain.same_losses, saved.same_losses) == (None, True)
    refused = stepper.measure(Cell(resolution=8, batch=1))
    assert refused.seconds is None and refused.error is not None
    again = stepper.measure(Cell(resolution=64, batch=1, strict=False))
    assert again.same_losses is True


def test_a_row_without_figures_says_why() -> None:
    failed = StepRow(base="sdxl", cell=Cell(resolution=1024, batch=4), error="OutOfMemoryError (of a | b)")
    part = run_part(Part("one", [], 1), Budget(0), Path("log")).model_copy(update={"rows": [failed]})
    table = write_report("a GPU", "true", 1.0, [part])
    assert "| sdxl | 1024 | 4 | no | yes |  |  | OutOfMemoryError (of a \\| b) |" in table


@pytest.mark.long
def test_the_check_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out" / "check"
    arguments = ["--device", "cpu", "--shapes", "small", "--steps", "1", "--seconds", "900", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["gpu_check", *arguments, "--only", "steps, sd15", "promises", "memory"])
    main()
    parts = {part["name"]: part for part in json.loads(out.with_suffix(".json").read_text())["parts"]}
    assert {part["status"] for part in parts.values()} == {"done"}
    assert len(parts["steps, sd15"]["rows"]) == 12
    held = {row["name"]: row["ok"] for row in parts["promises, sd15"]["rows"]}
    assert held.pop("fp16 with the scaler") is None  # it needs a GPU
    assert held and all(held.values())
    assert [len(parts[f"memory, small-{base}"]["rows"]) for base in ("sd15", "sdxl")] == [3, 3]
    assert "killed, and resumed to the same bytes | yes" in out.with_suffix(".md").read_text()
