"""Texts of more tokens than a text encoder takes at once, in each family: as sd-scripts encodes them, and never without
the phrase to keep."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from diffusers import DiffusionPipeline

from core.domain.model import Family
from worker.engine.errors import BadInput
from worker.engine.families import load_base
from worker.engine.families.long_texts import fit_phrase
from worker.engine.families.protocol import Base, Conditioning, SamplingParams, SizeConditioning, TextLimits

FAMILIES: tuple[Family, ...] = get_args(Family)
LENGTH, ROOM = 16, 14  # of the random base's encoders; its tokenizer makes a token of each letter
HOW = SamplingParams(num_steps=2, guidance_scale=3.0, guidance_rescale=0.0, width=32, height=32)
FRAMING = SizeConditioning(original=(32, 32), crop=(0, 0), target=(32, 32))
THREE = TextLimits(num_chunks=3)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def folder(family: Family, base_folder: Callable[[Family], Path]) -> Path:
    return base_folder(family)


@pytest.fixture
def base(family: Family, folder: Path) -> Base:
    return load_base(family, folder, torch.device("cpu"), torch.float32)


def encode(base: Base, texts: list[str], limits: TextLimits = THREE) -> list[Conditioning]:
    with torch.no_grad():
        return base.open_text_encoders(limits).encode(texts)


def encode_as_sd_scripts(tokenizer: Any, encoder: Any, text: str, num_chunks: int) -> tuple[torch.Tensor, ...]:
    """All hidden states and the pooled output by the steps of its ``_get_input_ids`` (for the marks of SD 1.x
    and of SDXL's first tokenizer, which fills up with ends) and of its ``encode_tokens``."""
    padded = tokenizer(
        text, padding="max_length", truncation=True, max_length=num_chunks * ROOM + 2, return_tensors="pt"
    ).input_ids[0]
    starts = range(1, num_chunks * ROOM + 1, ROOM)
    chunks = torch.stack([torch.cat([padded[:1], padded[i : i + ROOM], padded[-1:]]) for i in starts])
    with torch.no_grad():
        answer = encoder(chunks, output_hidden_states=True)
    joined = [
        torch.cat([states[0, :1], *[chunk[1:-1] for chunk in states], states[-1, -1:]])
        for states in (*answer.hidden_states, answer.last_hidden_state)
    ]
    pooled = answer.text_embeds[0] if "text_embeds" in answer else joined[-1]
    return (*joined, pooled)


@pytest.mark.parametrize(("length", "num_chunks"), [(15, 2), (28, 2), (29, 3), (42, 3), (60, 3)])
def test_long_texts_are_encoded_as_sd_scripts_does(
    family: Family, folder: Path, base: Base, length: int, num_chunks: int
) -> None:
    text = "abcdefghijklmnopqrstuvwxyz" * 3
    row = encode(base, [text[:length]])[0]
    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True, add_watermarker=False)
    first = encode_as_sd_scripts(pipeline.tokenizer, pipeline.text_encoder, text[:length], num_chunks)
    assert row["states"].shape[0] == num_chunks * ROOM + 2
    if family == "sdxl":
        second = encode_as_sd_scripts(pipeline.tokenizer_2, pipeline.text_encoder_2, text[:length], num_chunks)
        torch.testing.assert_close(row["states"], torch.cat([first[-4], second[-4]], dim=-1))
        torch.testing.assert_close(row["pooled"], second[-1])
    else:
        torch.testing.assert_close(row["states"], first[-2])


def test_a_text_that_fits_is_encoded_as_ever_whatever_is_allowed(base: Base) -> None:
    text = "a cat of 14 t"
    plain, allowed = encode(base, [text, ""], TextLimits()), encode(base, [text, ""])
    for before, after in zip(plain, allowed, strict=True):
        assert before["states"].shape[0] == LENGTH
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_texts_in_a_batch_do_not_change_each_other(base: Base) -> None:
    texts = ["a cat", "a cat that is longer than a chunk", "x" * 40]
    together = encode(base, texts)
    assert [len(row["states"]) for row in together] == [16, 30, 44]
    for text, row in zip(texts, together, strict=True):
        torch.testing.assert_close(row["states"], encode(base, [text])[0]["states"])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_denoiser_answers_a_short_text_as_alone_beside_longer_ones(base: Base, precision: torch.dtype) -> None:
    size = base.encode_size_conditioning(FRAMING)
    rows = [{**row, **size} for row in encode(base, ["a cat", "a cat " * 5, "b" * 40])]
    assert len({len(row["states"]) for row in rows}) == 3
    noisy = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    timesteps = torch.tensor([500, 100, 900])
    near = {"rtol": 1e-4, "atol": 1e-5} if precision is torch.float32 else {"rtol": 0.05, "atol": 0.03}
    with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision is not torch.float32):
        together = base.predict(noisy, timesteps, rows)
        for index, row in enumerate(rows):
            part = slice(index, index + 1)
            alone = base.predict(noisy[part], timesteps[part], [row])
            torch.testing.assert_close(together[part], alone, **near)


def test_the_end_of_a_long_text_matters_to_the_denoiser(base: Base) -> None:
    size = base.encode_size_conditioning(FRAMING)
    rows = [{**row, **size} for row in encode(base, ["a" * 30 + "b", "a" * 30 + "c"])]
    with torch.no_grad():
        answers = [base.predict(torch.ones(1, 4, 8, 8), torch.tensor([500]), [row]) for row in rows]
    assert not torch.equal(*answers)


def test_samples_of_texts_of_any_length_come_in_order(base: Base) -> None:
    empty, *prompts = encode(base, ["", "b " * 20, "a cat", "b " * 21, "a dog"])
    together = base.sample(prompts, empty, [1, 2, 3, 4], HOW)
    for index, prompt in enumerate(prompts):
        alone = base.sample([prompt], empty, [index + 1], HOW)
        torch.testing.assert_close(together[index], alone[0], rtol=1e-3, atol=1e-3)


def test_an_empty_text_beside_a_long_one_is_as_long(base: Base, folder: Path, family: Family) -> None:
    """Of SDXL it is zeros; of the others its chunk again and again."""
    empty, long = encode(base, ["", "b" * 20])
    calls: list[torch.Tensor] = []
    handle = base.denoiser.module.register_forward_pre_hook(
        lambda _module, _args, kwargs: calls.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    base.sample([long], empty, [1], HOW)
    handle.remove()
    unconditional = calls[0][0]
    assert unconditional.shape == long["states"].shape
    inner = empty["states"][1:-1]
    torch.testing.assert_close(unconditional[1:-1], torch.cat([inner, inner]))
    assert (family == "sdxl") == (not unconditional.any())


# --- what is kept -------------------------------------------------------------------------------------------


def test_two_triggers_behind_a_text_that_is_cut_are_distinguished(base: Base) -> None:
    caption = "a toy on the table " * 10
    rows = [
        encode(base, [f"{caption}, {trigger}"], TextLimits(2, keep=trigger))[0]["states"]
        for trigger in ("zorb", "wibble")
    ]
    assert rows[0].shape[0] == rows[1].shape[0] == 2 * ROOM + 2
    assert not torch.equal(*rows)


def test_what_is_cut_is_known(base: Base) -> None:
    encoders = base.open_text_encoders(TextLimits(2))
    assert [encoders.is_cut("x" * length) for length in (1, 14, 15, 28, 29, 99)] == [False] * 4 + [True] * 2


def test_a_trigger_longer_than_all_that_is_encoded_is_refused(base: Base) -> None:
    with pytest.raises(BadInput, match="The trigger has 29 tokens; the limit is 28"):
        encode(base, ["a cat, " + "x" * 29], TextLimits(2, keep="x" * 29))


@pytest.mark.parametrize(
    ("text", "fitted"),
    [
        ("one two three, zap", "one two three, zap"),
        ("one two three four five six, zap", "one two three four five, zap"),
        ("one two three four five six seven, zap, and more", "one two three four five, zap, and more"),
        ("a, b, c, d, e, f, Zap", "a, b, c, d, e, Zap"),
        ("one two zap three four five six seven", "one two zap three four five six seven"),
        ("one two three four five six a zap", "one two three four five zap"),
        ("one two three four five six seven", "one two three four five six seven"),
        ("zapped one two three four five six", "zapped one two three four five six"),
    ],
)
def test_words_in_front_of_the_phrase_make_room_for_it(text: str, fitted: str) -> None:
    assert fit_phrase(text, "zap", 6, lambda part: len(part.split())) == fitted


def test_all_words_may_have_to_make_room() -> None:
    assert fit_phrase("one two three", "three", 1, lambda part: len(part.split())) == "three"
