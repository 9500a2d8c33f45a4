"""``make bench-quality``: every case as ``preset: auto`` trains it, beside diffusers' own script where one is given.

    python -m bench.quality [--cases robot outline ...] [--out out/quality.md] [--threads 2]
                            [--script PATH --python PATH]

Two cores take about four minutes a case. ``--script`` is the path of ``train_text_to_image_lora.py`` in a checkout
of diffusers, its ``check_min_version`` commented out, and ``--python`` that of a virtual environment with what it
needs: the same pictures are then trained by it for as many steps.
"""

import argparse
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch

from bench.quality.cases import list_cases
from bench.quality.measure import TINY, Row, judge_case, measure_base, train_case
from bench.quality.peer import Peer
from core.model_folders import read_card

HEAD = """# What adapters learn on the bundled base

`make bench-quality` on {cores} cores: `preset: auto`, 12 pictures for a glyph and 16 for a style, seed 0.

- **Hits**: of 40 pictures, two for each of 20 prompts with a background that no training picture had, how many show the
  glyph (or the style) on that background, by the nearest render.
- **Kept**: of 200 pictures, two for each of 100 prompts for what the base knows, without the word, how many are still
  answered right; the base itself answers {base:.1%}. No class prompt is among them. **Unasked**: of those pictures, the
  ones of glyphs that no class prompt asks for; of them the base answers {base_unasked}.
- **Held-out loss**: the base's and the adapter's on ten pictures that nobody trained on, by the same noise.
- Retention and concept are the job's own scores.

All pictures are drawn as the base's card says: {how.sample_num_steps} steps of DDIM, guidance of
{how.sample_guidance_scale:g} rescaled by {how.sample_guidance_rescale:g}.

| case | by | hits | kept | unasked | held-out loss | steps | step taken | seconds | retention | concept |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def write_table(rows: Iterable[Row], path: Path) -> None:
    listed = list(rows)
    base = measure_base(TINY, 100)
    unasked, how = _percent(base.share_unasked), read_card(TINY).defaults
    text = HEAD.format(cores=os.cpu_count(), base=base.share, base_unasked=unasked, how=how)
    path.write_text(text + "".join(map(_line, listed)) + _foot(listed))


def _line(row: Row) -> str:
    change = row.loss / row.base_loss - 1
    retention, concept = (row.scores.get(name) for name in ("retention", "concept"))
    scores = [f"{value:.2f}" if value is not None else "" for value in (retention, concept)]
    loss = f"{row.base_loss:.3f} → {row.loss:.3f} ({change:+.0%})"
    steps = f"{row.num_steps} | {row.step_taken} | {row.seconds:.0f}"
    shares = f"{row.hits:.0%} | {row.retained:.1%} | {_percent(row.retained_unasked)}"
    return f"| {row.case} | {row.by} | {shares} | {loss} | {steps} | {' | '.join(scores)} |\n"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _foot(rows: list[Row]) -> str:
    lines = []
    for by in dict.fromkeys(row.by for row in rows):
        own = [row for row in rows if row.by == by]
        hits, kept = sum(r.hits for r in own) / len(own), sum(r.retained - r.base_retained for r in own) / len(own)
        lines.append(f"- {by}: {hits:.0%} hits on the mean, {100 * kept:+.1f} points kept against the base.\n")
    return "\n" + "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("out/quality.md"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--script", type=Path)
    parser.add_argument("--python", type=Path)
    parser.add_argument("--rates", nargs="*", type=float, default=[1e-4], help="the script's; 1e-4 is its own")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for case in list_cases():
            if args.cases and case.name not in args.cases:
                continue
            folder = Path(scratch) / case.name.replace(" ", "-")
            folder.mkdir()
            trained = train_case(case, {}, folder)
            rows.append(judge_case(case, "Atelier", trained, folder))
            print(_line(rows[-1]), end="", flush=True)
            if args.script is not None:
                for rate in args.rates:
                    peer, scratch_of = Peer(args.script, args.python, read_card(TINY), rate), folder / f"peer-{rate}"
                    by_peer = peer.train(case, trained.num_steps, scratch_of)
                    rows.append(judge_case(case, f"diffusers' script, rate {rate:g}", by_peer, scratch_of))
                    print(_line(rows[-1]), end="", flush=True)
            write_table(rows, args.out)


if __name__ == "__main__":
    main()
