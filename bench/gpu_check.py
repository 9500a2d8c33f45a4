"""``make gpu-check``: what one NVIDIA GPU does with the engine, in at most eight minutes and without a network.

    python -m bench.gpu_check [--device cuda] [--shapes true] [--seconds 480] [--steps 5] [--out out/gpu-check]

Bases of SD 1.5's and SDXL's shapes with random weights are written to a temporary folder (9 GB). Then it times steps,
runs whole jobs, kills one, and holds peaks of memory against the traced ones. A part that fails, or that no longer fits
into the time, is reported, and the rest goes on. It leaves ``gpu-check.md`` and ``gpu-check.json``.

The engine has no option for compiled steps: they are measured by torch.compile, on the denoiser's transformer blocks
and on the denoiser as a whole. ``--device cpu --shapes small`` tries the program itself, in two minutes.
"""

import argparse
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from pydantic import BaseModel

from bench.gpu.parts import Budget, Part, Ran, list_parts, run_part, start_program, stop_program
from bench.gpu.report import write_report
from worker.engine.device import name_device, total_memory_bytes

FAMILIES = {"sd15": "sd1", "sdxl": "sdxl"}
WRITING_SECONDS = {"true": 30.0, "small": 5.0}


class Report(BaseModel):
    """``seconds``: of the whole check."""

    device: str
    memory_bytes: int
    versions: dict[str, str]
    shapes: str
    seconds: float
    parts: list[Ran]


class Traces:
    """Background programs that trace the memory of the bases, a core each."""

    def __init__(self, folders: dict[str, Path], logs: Path) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for name, folder in folders.items():
            with (logs / f"trace-{name}.log").open("wb") as log:
                self._running[f"trace {name}"] = start_program(["bench.gpu.bases", str(folder), "--trace"], log)

    def wait(self, name: str, budget: Budget) -> bool:
        """Whether it has ended well by the end of the budget."""
        try:
            return name in self._running and self._running[name].wait(timeout=max(0.0, budget.left)) == 0
        except subprocess.TimeoutExpired:
            return False

    def stop(self) -> None:
        for process in self._running.values():
            stop_program(process)


@contextmanager
def open_traces(folders: dict[str, Path], logs: Path) -> Iterator[Traces]:
    traces = Traces(folders, logs)
    try:
        yield traces
    finally:
        traces.stop()


def check(device: str, shapes: str, budget: Budget, num_steps: int, only: list[str], scratch: Path) -> Iterator[Ran]:
    """``only``: beginnings of the names of the parts to run; all if it is empty."""
    folders = {name: scratch / name for name in FAMILIES}
    made = {}
    for name, folder in folders.items():
        how = ["--device", device, "--shapes", shapes]
        part = Part(f"base {name}", ["bench.gpu.bases", str(folder), FAMILIES[name], *how], WRITING_SECONDS[shapes])
        made[name] = run_part(part, budget, scratch / f"{name}.log")
        yield made[name]
    written = {name: folder for name, folder in folders.items() if made[name].status == "done"}
    with open_traces(written, scratch) as traces:
        for part in list_parts(folders, device, small=shapes == "small", num_steps=num_steps):
            if only and not part.name.startswith(tuple(only)):
                continue
            if part.after is not None and not traces.wait(part.after, budget):
                yield Ran(name=part.name, status="skipped", error=f"{part.after} did not end well in time")
                continue
            yield run_part(part, budget, scratch / "part.log")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", choices=["true", "small"], default="true")
    parser.add_argument("--seconds", type=float, default=480, help="for everything")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each kind")
    parser.add_argument("--only", nargs="*", default=[], metavar="PART", help="parts by the beginning of their names")
    parser.add_argument("--out", type=Path, default=Path("out/gpu-check"), metavar="PATH", help="without ending")
    args = parser.parse_args()
    budget, ran = Budget(args.seconds), []
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no CUDA device here: is its build one for CUDA, and nvidia-smi content?")
    with tempfile.TemporaryDirectory() as scratch:
        for part in check(args.device, args.shapes, budget, args.steps, args.only, Path(scratch)):
            ran.append(part)
            print(f"{part.name}: {part.status}, {part.seconds:.0f} s, {len(part.rows)} rows", flush=True)
    report = Report(
        device=name_device(device),
        memory_bytes=total_memory_bytes(device),
        versions={"python": platform.python_version()} | {
            name: version(name) for name in ("torch", "diffusers", "peft", "accelerate", "transformers")
        },
        shapes=args.shapes,
        seconds=args.seconds - budget.left,
        parts=ran,
    )  # fmt: skip
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(report.model_dump_json(indent=2) + "\n")
    title = f"{report.device}, {report.memory_bytes / 1e9:.0f} GB; " + ", ".join(
        f"{name} {number}" for name, number in report.versions.items()
    )
    args.out.with_suffix(".md").write_text(write_report(title, report.shapes, report.seconds, ran))
    print(args.out.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
