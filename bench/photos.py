"""How long a dataset of many photos takes, from the upload to "ready", against their mere decoding on one core.

    python -m bench.photos [--photos 1000] [--side 1024] [--out out/photos.md] [--write DOCUMENT]

A real API with its servers, and one worker's validation in this process, which decodes in the sandbox as always.
Nothing else should run on the machine.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image

from atelier_client import AtelierClient
from bench.api.stack import open_stack
from bench.report import write_report
from tests.fixtures.validation import checking
from worker.engine.cores import count_usable_cores

MARKER, GOAL = "photos", 3.0
QUALITY, LARGEST_DETAIL = 90, 128


def write_photos(folder: Path, count: int, side: int) -> list[Path]:
    """Seeded JPEGs with detail of all sizes, as photos have it, so that they take as long to decode."""
    rng, paths = np.random.default_rng(1), []
    folder.mkdir(parents=True)
    for number in range(count):
        photo, detail = np.zeros((side, side, 3)), 1
        while detail <= LARGEST_DETAIL:
            noise = rng.integers(0, 255, (side // detail, side // detail, 3), dtype=np.uint8)
            scaled = Image.fromarray(noise).resize((side, side), Image.Resampling.BILINEAR)
            photo += np.asarray(scaled, dtype=float) * detail**0.5
            detail *= 2
        paths.append(folder / f"{number:04d}.jpg")
        Image.fromarray((photo * 255 / photo.max()).astype(np.uint8)).save(paths[-1], quality=QUALITY)
    return paths


def time_decoding(paths: Sequence[Path]) -> float:
    """Seconds, by Pillow in one thread."""
    started = time.perf_counter()
    for path in paths:
        with Image.open(path) as image:
            image.load()
    return time.perf_counter() - started


def measure(count: int, side: int) -> list[str]:
    """Lines of Markdown."""
    with tempfile.TemporaryDirectory() as folder, open_stack(1, 1) as stack, checking(stack.api):
        paths = write_photos(Path(folder) / "photos", count, side)
        megabytes = sum(path.stat().st_size for path in paths) / 1e6
        decoding = time_decoding(paths)
        client = AtelierClient(stack.api.url, stack.api.api_key)
        started = time.perf_counter()
        dataset = client.upload_dataset(paths[0].parent)
        uploaded = time.perf_counter() - started
        ready = client.wait_for_dataset(dataset.id)
        total = time.perf_counter() - started
    assert ready.num_images == count
    reached = "yes" if total <= GOAL * decoding else "**no**"
    return [
        "| photos | decoding alone, one core | upload | until ready | against decoding | goal | reached |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| {count:,} of {side} px, {megabytes:,.0f} MB | {decoding:.1f} s | {uploaded:.1f} s | {total:.1f} s | "
        f"{total / decoding:.1f}x | at most {GOAL:g}x | {reached} |",
    ]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--side", type=int, default=1024, help="pixels")
    parser.add_argument("--out", type=Path, default=Path("out/photos.md"), metavar="PATH")
    parser.add_argument("--write", type=Path, metavar="PATH", help="a document with markers for this section")
    return parser.parse_args(arguments)


def main() -> None:
    args = parse()
    head = f"{count_usable_cores()} cores for all, {datetime.now(UTC):%Y-%m-%d}."
    lines = [head, "", *measure(args.photos, args.side)]
    write_report(lines, args.out, args.write, MARKER)


if __name__ == "__main__":
    main()
