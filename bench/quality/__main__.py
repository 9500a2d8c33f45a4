"""``make bench-quality``: every case with ``preset: auto`` or ``style``, beside diffusers' own script if one is given.

    python -m bench.quality [--cases robot outline ...] [--out out/quality.md] [--threads 2]
                            [--script PATH --python PATH]

Two cores take about four minutes a case. ``--script`` is the path of ``train_text_to_image_lora.py`` in a checkout of
diffusers, its ``check_min_version`` commented out, and ``--python`` that of a virtual environment with its
requirements: the script then trains on the same images for as many steps.

Beside the table, each case leaves a contact sheet: its training images, and below them the forty of the judgement.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import torch

from bench.quality.cases import Case, list_cases
from bench.quality.measure import SHEET, TINY, Row, judge_case, measure_base, train_case
from bench.quality.peer import Peer
from bench.quality.unseen import list_unseen_cases
from core.model_folders import read_card

TUNED, UNSEEN = "Cases that the defaults were chosen by", "Cases that no default was chosen by"

HEAD = """# What adapters learn on the bundled base

`make bench-quality` on {cores} cores: `preset: auto` with 12 images for a subject, `style` with 16 for a style, seed 0.

- **Hits**: of 40 images, two for each of 20 prompts with a background that no training image had, the share that shows
  the subject on that background, by the nearest drawing. For a style: the right subject in the right style.
- **Plain**: of a style's 20 prompts without its word, the share that is drawn in the base's own style.
- **Kept**: of 200 images, two for each of 100 prompts for known glyphs, without the word, the share that is still
  right; the base itself reaches {base:.1%}. No class prompt is among them. **Unasked**: the same for glyphs that no
  class prompt names; the base reaches {base_unasked}.
- **PSNR**, **color error** (Delta E) and **border** of the 40 images against the nearest render of the prompt; in
  brackets the autoencoder's own values on true renders (`bench/quality/fidelity.py`).
- **Held-out loss**: the base's and the adapter's on ten images that neither was trained on, with the same noise.
- Retention is the job's own score.

All images are drawn as the base's card says: {how.sample_num_steps} steps of DDIM, guidance of
{how.sample_guidance_scale:g} from {how.sample_guidance_start:.0%} to {how.sample_guidance_stop:.0%} of the steps,
rescaled by {how.sample_guidance_rescale:g}.

"""

COLUMNS = (
    "case", "by", "hits", "plain", "kept", "unasked", "PSNR", "color error", "border", "held-out loss", "steps",
    "step taken", "seconds", "retention",
)  # fmt: skip


def write_tables(tables: Mapping[str, Sequence[Row]], path: Path) -> None:
    base = measure_base(TINY, 100)
    unasked, how = _percent(base.share_unasked), read_card(TINY).defaults
    text = HEAD.format(cores=os.cpu_count(), base=base.share, base_unasked=unasked, how=how)
    path.write_text(text + "\n".join(_table(title, rows) for title, rows in tables.items() if rows))


def _table(title: str, rows: Sequence[Row]) -> str:
    head = f"## {title}\n\n| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}\n"
    return head + "".join(map(_line, rows)) + _foot(rows)


def _line(row: Row) -> str:
    change = row.loss / row.base_loss - 1
    retention = "" if (kept := row.scores.get("retention")) is None else f"{kept:.2f}"
    loss = f"{row.base_loss:.3f} → {row.loss:.3f} ({change:+.0%})"
    steps = f"{row.num_steps} | {row.step_taken} | {row.seconds:.0f}"
    shares = f"{row.hits:.0%} | {_percent(row.plain)} | {row.retained:.1%} | {_percent(row.retained_unasked)}"
    looks = " | ".join(
        f"{getattr(row.fidelity, name):.1f} ({getattr(row.bound, name):.1f})"
        for name in ("psnr", "color_error", "border")
    )
    return f"| {row.case} | {row.by} | {shares} | {looks} | {loss} | {steps} | {retention} |\n"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _foot(rows: Sequence[Row]) -> str:
    lines = []
    for by in dict.fromkeys(row.by for row in rows):
        own = [row for row in rows if row.by == by]
        hits, kept = fmean(r.hits for r in own), fmean(r.retained - r.base_retained for r in own)
        lost = fmean(row.bound.psnr - row.fidelity.psnr for row in own)
        lines.append(
            f"- {by}: {hits:.0%} hits on the mean, {100 * kept:+.1f} points kept against the base, {lost:.1f} dB below "
            "the autoencoder's bound.\n"
        )
    return "\n" + "".join(lines)


def _bench_case(case: Case, args: argparse.Namespace, scratch: Path) -> Iterator[Row]:
    folder = scratch / case.name.replace(" ", "-")
    folder.mkdir()
    trained = train_case(case, {"preset": case.preset}, folder)
    yield judge_case(case, "Atelier", trained, folder)
    shutil.copy(folder / SHEET, args.out.with_name(f"{args.out.stem}-{folder.name}.png"))
    for rate in args.rates if args.script is not None else ():
        peer, scratch_of = Peer(args.script, args.python, read_card(TINY), rate), folder / f"peer-{rate}"
        by_peer = peer.train(case, trained.num_steps, scratch_of)
        yield judge_case(case, f"diffusers' script, rate {rate:g}", by_peer, scratch_of)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("out/quality.md"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--script", type=Path)
    parser.add_argument("--python", type=Path)
    parser.add_argument("--rates", nargs="*", type=float, default=[1e-4], help="the script's; its default is 1e-4")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    tables: dict[str, list[Row]] = {TUNED: [], UNSEEN: []}
    listed = [*((TUNED, case) for case in list_cases()), *((UNSEEN, case) for case in list_unseen_cases())]
    with tempfile.TemporaryDirectory() as scratch:
        for title, case in listed:
            if args.cases and case.name not in args.cases:
                continue
            for row in _bench_case(case, args, Path(scratch)):
                tables[title].append(row)
                print(_line(row), end="", flush=True)
            write_tables(tables, args.out)


if __name__ == "__main__":
    main()
