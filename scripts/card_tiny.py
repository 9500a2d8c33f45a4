"""Writes the bundled base's card: the starting values of its presets, its prompts, and its cost.

    python -m scripts.card_tiny [--folder models/tiny] [--calibration JSON]

Without ``--calibration`` the card keeps its own.

The retention score uses sixteen of the glyphs that the base knows, and prior preservation the others; neither uses a
prompt that the base is measured by.
"""

import argparse
import random
from itertools import product
from pathlib import Path

from core.domain.model import Calibration, Defaults, ModelInfo
from core.model_folders import CARD, read_card
from scripts.colors import BACKGROUNDS
from scripts.glyphs import BASE, SCALES, caption
from scripts.retrieval import list_asked
from worker.engine.bases.inspection import inspect
from worker.engine.memory.tracing import add_memory

NUM_NEUTRAL = 16
NUM_CLASS = len(BASE) - NUM_NEUTRAL
PROMPTS_A_GLYPH = 5

DEFAULTS = Defaults(
    adapter_type="locon",
    rank=16,
    targets="all",
    learning_rate=5e-3,
    schedule="cosine",
    batch_size=8,
    steps_per_image=25,
    min_steps=200,
    max_steps=300,
    min_snr_gamma=None,
    sample_num_steps=20,
    sample_guidance_scale=5.0,
    sample_guidance_rescale=0.7,
    sample_guidance_start=0.1,
    sample_guidance_stop=0.6,
    prior_num_images=NUM_CLASS,
    prior_batch_size=8,
    prior_weight=4.0,
)
"""Measured: see README.md beside the weights."""

EXAMPLES = (
    "a large {trigger} on a blue background",
    "a large {trigger} on a pink background",
    "a large {trigger} on a purple background",
    "a large cat face on a green background",
)


def list_prompts() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class prompts and neutral prompts, no glyph in both. The first class prompts, for which images are drawn, have
    each of their glyphs once; others of the same glyphs follow."""
    rng, asked = random.Random(5), {caption(*row) for row in list_asked()}
    names = rng.sample(list(BASE), NUM_CLASS + NUM_NEUTRAL)
    free = {name: [caption(name, *look) for look in product(SCALES, BACKGROUNDS)] for name in names}
    drawn = {name: rng.sample([text for text in free[name] if text not in asked], PROMPTS_A_GLYPH) for name in names}
    class_prompts = [drawn[name][turn] for turn in range(PROMPTS_A_GLYPH) for name in names[:NUM_CLASS]]
    return tuple(class_prompts), tuple(drawn[name][0] for name in names[NUM_CLASS:])


def make_card(folder: Path, calibration: Calibration | None) -> ModelInfo:
    info = inspect(
        folder,
        model_id="tiny",
        defaults=DEFAULTS,
        calibration=calibration,
        description="Glyphs on flat backgrounds at 64x64 pixels: the bundled base, for trying the service out and for "
        "its tests.",
        example_prompts=EXAMPLES,
    )
    class_prompts, neutral_prompts = list_prompts()
    return info.model_copy(update={"class_prompts": class_prompts, "neutral_prompts": neutral_prompts})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("models/tiny"))
    parser.add_argument("--calibration", type=Calibration.model_validate_json)
    args = parser.parse_args()
    calibration = args.calibration or read_card(args.folder).calibration
    card = add_memory(make_card(args.folder, calibration), args.folder)
    (args.folder / CARD).write_text(card.model_dump_json(indent=2) + "\n")


if __name__ == "__main__":
    main()
