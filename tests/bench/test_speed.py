"""The speed bench on small shapes, with scripts in place of other trainers."""

import os
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.speed.__main__ import main, write_dataset
from bench.speed.bare import time_bare
from bench.speed.figures import Comparison, Figure, find_slowest
from bench.speed.peers import NotRun, Peer, open_diffusers, open_sd_scripts
from bench.speed.plot import draw_phases
from bench.speed.sizes import Place, Sizes
from tests.fixtures.true_bases import write_true_base

SIZES = Sizes("small", resolution=64, steps=4, images=2, rank=4, threads=1, precision="fp32", repeats=1)
OPTIONS = """
import json, sys, time
from pathlib import Path
given = dict(zip(sys.argv[1:], sys.argv[2:]))
assert Path(given["--pretrained_model_name_or_path"], "unet").is_dir()
assert given["--mixed_precision"] == "no" and given["--resolution"] == "64"
def finish():
    time.sleep(0.3 * int(given["--max_train_steps"]))
    Path(given["--output_dir"], "adapter.safetensors").write_bytes(b"")
"""
DIFFUSERS = (
    OPTIONS
    + """
rows = [json.loads(line) for line in Path(given["--train_data_dir"], "metadata.jsonl").open()]
assert len(rows) == 2 and all(Path(given["--train_data_dir"], row["file_name"]).is_file() for row in rows)
assert all(row[given["--caption_column"]] for row in rows)
finish()
"""
)
SD_SCRIPTS = (
    OPTIONS
    + """
(data,) = Path(given["--train_data_dir"]).iterdir()
assert data.name == "1_zap" and len(list(data.glob("*.png"))) == len(list(data.glob("*.txt"))) == 2
assert Path(given["--tokenizer_cache_dir"], "openai_clip-vit-large-patch14", "vocab.json").is_file()
assert "--cache_latents" in sys.argv and given["--network_dim"] == "4"
finish()
"""
)


def write_checkout(folder: Path, peer: Peer, code: str) -> Path:
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (folder / peer.script).parent.mkdir(parents=True, exist_ok=True)
    (folder / peer.script).write_text(code)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("speed")
    write_true_base(folder / "sd15", shapes="small")
    write_dataset(folder / "pictures", SIZES)
    return Place(folder / "sd15", folder / "pictures", folder / "work")


@pytest.mark.parametrize(("opened", "code"), [(open_diffusers, DIFFUSERS), (open_sd_scripts, SD_SCRIPTS)])
def test_a_peers_step_is_the_difference_of_two_runs(
    opened: Callable[[Path], Peer], code: str, place: Place, tmp_path: Path
) -> None:
    peer = opened(tmp_path)
    write_checkout(tmp_path, peer, code)
    times = peer.measure(place, SIZES, os.getpid())
    assert times.seconds > 4 * 0.3 and 0.15 < times.seconds_per_step < 1
    assert 2e6 < times.peak_bytes < 1e8  # a small script's, not this process's


def test_a_peer_that_fails_says_why(place: Place, tmp_path: Path) -> None:
    peer = open_diffusers(tmp_path)
    with pytest.raises(NotRun, match=r"\.venv/bin/python is not there"):
        peer.measure(place, SIZES, 1)
    write_checkout(tmp_path, peer, "raise SystemExit('no such option')")
    with pytest.raises(NotRun, match="exit code 1: no such option"):
        peer.measure(place, SIZES, 2)
    (tmp_path / peer.script).write_text("")
    with pytest.raises(NotRun, match="it left no adapter"):
        peer.measure(place, SIZES, 3)


def test_the_bare_network_is_timed(place: Place) -> None:
    seconds = time_bare(place.base, 64, 3, 4, "fp32")
    assert len(seconds) == 3 and min(seconds) > 0


def test_a_goal_is_reached_by_the_ratio_of_the_medians() -> None:
    ours, peer = Figure([1.0, 3.0, 2.0]), Figure([5.0])
    row = Comparison("a step", 0.5, ours, peer)
    assert row.reached is True
    assert row.describe() == "| a step | at most 0.5x | 5.00 s | 2.00 s (1.00 to 3.00) | 0.40x | yes |"
    assert Comparison("a step", 0.3, ours, peer).describe().endswith("| 0.40x | **no** |")
    missing = Comparison("a step", 0.5, ours, Figure([], why="not run: no checkout"))
    assert missing.reached is None and "| not run: no checkout | 2.00 s" in missing.describe()
    assert Comparison("beside the steps", 1.5, ours).reached is False


def test_the_slowest_part_is_named_and_drawn() -> None:
    phases = {"starting": 2.0, "training": 9.0, "exporting and proof": 3.0}
    assert find_slowest(phases) == "exporting and proof, 3.0 s of 14.0 s"
    root = ET.fromstring(draw_phases({"cold": phases, "warm <1>": {"training": 7.0}}))
    bars = [part for part in root.iter("{http://www.w3.org/2000/svg}rect") if len(part)]
    widths = [float(part.get("width", 0)) for part in bars]
    assert len(widths) == 4 and widths[3] / sum(widths[:3]) == pytest.approx(0.5, rel=0.01)


@pytest.mark.long
def test_the_bench_writes_its_section_and_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document, out = tmp_path / "docs" / "benchmarks.md", tmp_path / "out" / "speed.md"
    document.parent.mkdir()
    document.write_text("# Before\n<!-- speed: begin -->\nstale text\n<!-- speed: end -->\nAfter\n")
    peer = write_checkout(tmp_path / "diffusers", open_diffusers(tmp_path), DIFFUSERS)
    sizes = ["--shapes", "small", "--resolution", "64", "--steps", "4", "--images", "2", "--threads", "1"]
    files = ["--out", str(out), "--write", str(document), "--diffusers", str(peer)]
    monkeypatch.setattr("sys.argv", ["speed", *sizes, "--repeats", "1", "--precision", "fp32", *files])
    main()
    text = document.read_text()
    assert text.startswith("# Before\n") and text.endswith("After\n") and "stale text" not in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
    assert [row[2] == "not run" for row in rows] == [False, False, True, False, False, False, False]
    assert rows[-1][3] == "0.00"  # the second job encodes nothing
    assert "The longest part of a job beside its steps" in text and "- cold: starting" in text
    ET.parse(document.parent / "images" / "speed.svg")
