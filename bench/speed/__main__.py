"""``make bench``: jobs and steps on a CPU, beside the bare network and other trainers, against their goals.

    python -m bench.speed [--diffusers PATH] [--sd-scripts PATH] [--resolution 256] [--steps 24] [--repeats 3]
                          [--out out/speed.md] [--write docs/benchmarks.md]

The base has SD 1.5's shapes and random weights (2 GB in a temporary folder); its vocabulary has CLIP's size. PATH is a
checkout with a virtual environment in PATH/.venv, in which its requirements are installed; without it, its rows say
"not run". Nothing else should run on the machine. ``--shapes small`` tries the program itself, in seconds.

Times of jobs are the trainer process's: from its start, or from the command to a warm one, until the files and their
load proof are there. The API and the queue before it are measured by ``bench.api``.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from bench.speed.figures import Results, find_slowest
from bench.speed.ours import measure_ours
from bench.speed.peers import NotRun, Peer, open_diffusers, open_sd_scripts
from bench.speed.plot import draw_phases
from bench.speed.sizes import Place, ProcessTimes, Sizes
from core.domain.dataset import DatasetManifest
from tests.chaos.report import write_between_markers
from tests.fixtures.bases import write_pictures
from worker.engine.cores import count_usable_cores
from worker.engine.device import choose_precision, name_device

CPU = torch.device("cpu")
MARKER, PLOT = "speed", "speed.svg"
COLUMNS = "| what: against | goal | peer | Atelier | ratio | reached |\n| --- | --- | --- | --- | --- | --- |"


@dataclass(frozen=True)
class Bench:
    """Everything that is measured with."""

    place: Place
    manifest: DatasetManifest
    files: dict[str, Path]
    sizes: Sizes
    peers: dict[str, Peer]

    def measure(self) -> Results:
        """In turn, so that what changes on the machine meanwhile meets all of them."""
        ours, bare, reasons = [], [], dict[str, str]()
        peers: dict[str, list[ProcessTimes]] = {"diffusers": [], "sd_scripts": []}
        for number in range(self.sizes.repeats):
            _tell(f"measurement {number + 1} of {self.sizes.repeats}: Atelier")
            ours.append(measure_ours(self.place, self.manifest, self.files, self.sizes, number))
            bare += self._time_bare()
            for name, peer in self.peers.items():
                if name in reasons:
                    continue
                _tell(name)
                try:
                    peers[name].append(peer.measure(self.place, self.sizes, number))
                except NotRun as error:
                    reasons[name] = f"not run: {error}"
                    _tell(reasons[name])
        return Results(ours, bare, peers["diffusers"], peers["sd_scripts"], reasons)

    def _time_bare(self) -> list[float]:
        _tell("bare U-Net")
        sizes = self.sizes
        numbers = {"resolution": sizes.resolution, "steps": sizes.steps, "rank": sizes.rank, "threads": sizes.threads}
        options = [part for name, value in numbers.items() for part in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "bench.speed.bare", str(self.place.base), "--precision", sizes.precision]
        made = subprocess.run([*command, *options], check=True, stdout=subprocess.PIPE)
        return list(json.loads(made.stdout))


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def write_dataset(folder: Path, sizes: Sizes) -> tuple[DatasetManifest, dict[str, Path]]:
    """With captions in a file beside each image and in metadata.jsonl, for other trainers."""
    side = sizes.resolution
    manifest, files = write_pictures(folder, [(side, side)] * sizes.images)
    lines = []
    for image in manifest.images:
        (folder / image.name).with_suffix(".txt").write_text(image.caption or "")
        lines.append(json.dumps({"file_name": image.name, "text": image.caption}) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines))
    return manifest, files


def report(results: Results, sizes: Sizes, plot: str) -> list[str]:
    """``plot``: its address in the document."""
    phases = results.phases()
    slowest = [f"- {kind}: {find_slowest(parts)}." for kind, parts in phases.items()]
    return [
        f"{sizes.title()}; {name_device(CPU)}, torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}.",
        "Medians, and in brackets the least and the most.",
        "",
        COLUMNS,
        *(row.describe() for row in results.compare()),
        "",
        "The longest part of a job beside its steps:",
        "",
        *slowest,
        "",
        f"![A job's phases: cold, warm, and a second one on the same images]({plot})",
    ]


def write_results(results: Results, sizes: Sizes, out: Path, document: Path | None) -> None:
    drawn = draw_phases(results.phases())
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_name(PLOT).write_text(drawn)
    out.write_text("\n".join(report(results, sizes, PLOT)) + "\n")
    if document is not None:
        write_between_markers(document, MARKER, report(results, sizes, f"images/{PLOT}"))
        (document.parent / "images").mkdir(exist_ok=True)
        shutil.copy(out.with_name(PLOT), document.parent / "images" / PLOT)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--diffusers", type=Path, metavar="PATH", help="a checkout with .venv")
    parser.add_argument("--sd-scripts", type=Path, metavar="PATH", help="a checkout with .venv")
    parser.add_argument("--shapes", choices=["true", "small"], default="true")
    parser.add_argument("--resolution", type=int, default=256, help="pixels")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--threads", type=int, default=count_usable_cores())
    parser.add_argument("--precision", choices=["bf16", "fp32"], default=choose_precision(CPU))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("out/speed.md"), metavar="PATH")
    parser.add_argument("--write", type=Path, metavar="PATH", help="a document with markers for this section")
    return parser.parse_args(arguments)


def main() -> None:
    args = parse()
    sizes = Sizes(
        shapes=args.shapes, resolution=args.resolution, steps=args.steps, images=args.images, rank=args.rank,
        threads=args.threads, precision=args.precision, repeats=args.repeats,
    )  # fmt: skip
    peers = {}
    if args.diffusers is not None:
        peers["diffusers"] = open_diffusers(args.diffusers)
    if args.sd_scripts is not None:
        peers["sd_scripts"] = open_sd_scripts(args.sd_scripts)
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder) / "sd15", Path(folder) / "pictures", Path(folder) / "work")
        _tell("writing the base")
        # not in this process: its memory would count as that of the trainers that it starts
        command = [sys.executable, "-m", "bench.gpu.bases", str(place.base), "--shapes", sizes.shapes]
        subprocess.run(command, check=True, stdout=sys.stderr)
        results = Bench(place, *write_dataset(place.pictures, sizes), sizes, peers).measure()
    write_results(results, sizes, args.out, args.write)
    print(args.out.read_text())


if __name__ == "__main__":
    main()
