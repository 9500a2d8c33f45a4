"""Each family against diffusers' own pipeline on the same files: the conditioning, and the predictions."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline

from core.domain.model import Family
from tests.fixtures.bases import write_random_base
from worker.engine.errors import BadInput
from worker.engine.families import load_base
from worker.engine.families.protocol import Base, Conditioning, SamplingParams, SizeConditioning

FAMILIES: tuple[Family, ...] = get_args(Family)
PROMPTS = ["a cat", "two dogs on a sofa"]
HOW = SamplingParams(num_steps=3, guidance_scale=4.0, guidance_rescale=0.5, width=64, height=48)
FRAMING = SizeConditioning(original=(48, 64), crop=(0, 0), target=(48, 64))


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def folder(family: Family, base_folder: Callable[[Family], Path]) -> Path:
    return base_folder(family)


@pytest.fixture
def base(family: Family, folder: Path) -> Base:
    return load_base(family, folder, torch.device("cpu"), torch.float32)


@pytest.fixture
def pipeline(folder: Path) -> Any:
    """Scheduled as we draw samples."""
    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True, add_watermarker=False)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, timestep_spacing="trailing")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def encode(base: Base, texts: list[str]) -> list[Conditioning]:
    with torch.no_grad():
        return base.open_text_encoders().encode(texts)


def draw(pipeline: Any, output_type: str = "latent") -> Any:
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    return pipeline(
        PROMPTS,
        generator=generators,
        num_inference_steps=HOW.num_steps,
        guidance_scale=HOW.guidance_scale,
        guidance_rescale=HOW.guidance_rescale,
        width=HOW.width,
        height=HOW.height,
        output_type=output_type,
    ).images


def test_texts_are_encoded_as_the_pipeline_does(family: Family, base: Base, pipeline: Any) -> None:
    rows = encode(base, [*PROMPTS, ""])
    theirs = (
        pipeline.encode_prompt(PROMPTS)
        if family == "sdxl"
        else pipeline.encode_prompt(PROMPTS, "cpu", 1, do_classifier_free_guidance=True)
    )
    assert torch.equal(torch.stack([row["states"] for row in rows[:2]]), theirs[0])
    assert torch.equal(rows[2]["states"], theirs[1][0])
    if family == "sdxl":
        assert torch.equal(torch.stack([row["pooled"] for row in rows[:2]]), theirs[2])
        assert torch.equal(rows[2]["pooled"], theirs[3][0])
        assert not rows[2]["states"].any() and not rows[2]["pooled"].any()
    assert all(value.dtype == torch.float32 for row in rows for value in row.values())


def test_an_sdxl_that_does_not_zero_empty_prompts_encodes_them(base_folder: Callable[[Family], Path]) -> None:
    pipeline = DiffusionPipeline.from_pretrained(base_folder("sdxl"), add_watermarker=False)
    copy = base_folder("sdxl").parent / "not-zeroed"
    pipeline.register_to_config(force_zeros_for_empty_prompt=False)
    pipeline.save_pretrained(copy)
    empty = encode(load_base("sdxl", copy, torch.device("cpu"), torch.float32), [""])[0]
    _, states, _, pooled = pipeline.encode_prompt("a cat")
    assert torch.equal(empty["states"], states[0]) and torch.equal(empty["pooled"], pooled[0])
    assert empty["states"].any()


def test_the_denoiser_answers_as_within_the_pipeline(base: Base, pipeline: Any) -> None:
    """Its arguments are caught inside the pipeline: with them, the time ids that it makes for SDXL."""
    calls: list[tuple[Any, ...]] = []
    pipeline.unet.register_forward_hook(
        lambda _module, args, _kwargs, output: calls.append((*args, output[0])), with_kwargs=True
    )
    draw(pipeline)
    texts = encode(base, ["", *PROMPTS])
    rows = [{**texts[index], **base.encode_size_conditioning(FRAMING)} for index in (0, 0, 1, 2)]
    assert len(calls) == HOW.num_steps
    with torch.no_grad():
        for noisy_BCHW, timestep, answer in calls:
            ours = base.predict(noisy_BCHW, timestep.expand(4), rows)
            torch.testing.assert_close(ours, answer, rtol=1e-5, atol=1e-6)


def test_samples_are_the_pipelines(base: Base, pipeline: Any) -> None:
    rows = encode(base, ["", *PROMPTS])
    latents_BCHW = base.sample(rows[1:], rows[0], [5, 6], HOW)
    assert latents_BCHW.shape == (2, 4, 12, 16)
    torch.testing.assert_close(latents_BCHW, draw(pipeline), rtol=1e-3, atol=1e-3)
    again = base.sample(rows[2:], rows[0], [6], HOW)
    torch.testing.assert_close(again[0], latents_BCHW[1], rtol=1e-3, atol=1e-3)  # batches of another size round


def test_guidance_is_applied_within_its_interval_alone(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative prompt is asked about in the guided steps only, and by no guidance the picture is another."""
    rows = encode(base, ["", *PROMPTS])
    how = replace(HOW, num_steps=10, guidance_start=0.2, guidance_stop=0.6)
    predict, asked = base.predict, list[int]()

    def count(noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Sequence[Conditioning]) -> torch.Tensor:
        asked.append(len(conditioning))
        return predict(noisy, timesteps, conditioning)

    monkeypatch.setattr(base, "predict", count)
    within = base.sample(rows[1:], rows[0], [5, 6], how)
    assert asked == [2, 2, 4, 4, 4, 4, 2, 2, 2, 2]
    unguided = base.sample(rows[1:], rows[0], [5, 6], replace(how, guidance_scale=1.0))
    assert asked[10:] == [2] * 10 and not torch.equal(within, unguided)


def test_half_precision_stays_near(family: Family, folder: Path, base: Base) -> None:
    """The text stays in fp32, as it is cached."""
    half = load_base(family, folder, torch.device("cpu"), torch.bfloat16)
    rows = encode(base, ["", "a cat"])
    drawn = [each.sample(rows[1:], rows[0], [5], HOW) for each in (half, base)]
    assert drawn[0].dtype == torch.float32
    assert (drawn[0] - drawn[1]).norm() < 0.1 * drawn[1].norm()
    conditioning, noisy = [{**rows[1], **base.encode_size_conditioning(FRAMING)}], torch.ones(1, 4, 12, 16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        answer = half.predict(noisy, torch.tensor([500]), conditioning)
    with torch.no_grad():
        expected = base.predict(noisy, torch.tensor([500]), conditioning)
    assert (answer.float() - expected).norm() < 0.1 * expected.norm()


def test_images_are_decoded_as_the_pipeline_does(base: Base, pipeline: Any) -> None:
    pictures = base.decode(draw(pipeline))
    theirs = draw(pipeline, "pil")
    assert [picture.size for picture in pictures] == [(64, 48)] * 2
    for ours, expected in zip(pictures, theirs, strict=True):
        assert np.abs(np.asarray(ours, dtype=int) - np.asarray(expected, dtype=int)).max() <= 1


def test_images_of_any_size_are_encoded_to_scaled_posteriors(base: Base, pipeline: Any) -> None:
    rng = torch.Generator().manual_seed(1)
    pictures = [torch.rand((3, 32, 48), generator=rng) * 2 - 1, torch.rand((3, 40, 24), generator=rng) * 2 - 1]
    found = list(base.encode_images(iter(pictures)))
    assert [tuple(posterior.mean.shape) for posterior in found] == [(4, 8, 12), (4, 10, 6)]
    for picture, posterior in zip(pictures, found, strict=True):
        with torch.no_grad():
            theirs = pipeline.vae.encode(picture[None]).latent_dist
        torch.testing.assert_close(posterior.mean, theirs.mean[0] * pipeline.vae.config.scaling_factor)
        torch.testing.assert_close(posterior.std, theirs.std[0] * pipeline.vae.config.scaling_factor)


def test_a_shifted_vae_is_shifted_back(folder: Path, family: Family, tmp_path: Path) -> None:
    """latents = (z - shift) * scale, as in diffusers' pipelines for such a VAE (StableDiffusion3Pipeline)."""
    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True, add_watermarker=False)
    pipeline.vae.register_to_config(shift_factor=0.25, scaling_factor=1.5)
    pipeline.save_pretrained(tmp_path / "shifted")
    base = load_base(family, tmp_path / "shifted", torch.device("cpu"), torch.float32)
    picture = torch.rand((3, 32, 48), generator=torch.Generator().manual_seed(1)) * 2 - 1
    (found,) = base.encode_images(iter([picture]))
    with torch.no_grad():
        theirs = pipeline.vae.encode(picture[None]).latent_dist
        decoded = pipeline.vae.decode(theirs.mean).sample
    torch.testing.assert_close(found.mean, (theirs.mean[0] - 0.25) * 1.5)
    torch.testing.assert_close(found.std, theirs.std[0] * 1.5)
    (ours,) = base.decode(found.mean[None])
    (expected,) = pipeline.image_processor.postprocess(decoded, output_type="pil")
    assert np.abs(np.asarray(ours, dtype=int) - np.asarray(expected, dtype=int)).max() <= 1


def test_only_sdxl_is_conditioned_on_the_framing(family: Family, base: Base) -> None:
    described = base.encode_size_conditioning(SizeConditioning(original=(600, 800), crop=(0, 32), target=(512, 640)))
    if family == "sdxl":
        assert described["time_ids"].tolist() == [600, 800, 0, 32, 512, 640]
    else:
        assert described == {}


def test_the_framing_matters_to_sdxl(base_folder: Callable[[Family], Path]) -> None:
    base = load_base("sdxl", base_folder("sdxl"), torch.device("cpu"), torch.float32)
    text, latents = encode(base, ["a cat"])[0], torch.zeros(1, 4, 8, 8)
    cropped = SizeConditioning(original=(48, 64), crop=(0, 16), target=(48, 48))
    with torch.no_grad():
        answers = [
            base.predict(latents, torch.tensor([500]), [{**text, **base.encode_size_conditioning(framing)}])
            for framing in (FRAMING, cropped)
        ]
    assert not torch.equal(*answers)


def test_a_v_base_is_trained_towards_velocity(tmp_path: Path) -> None:
    write_random_base(tmp_path / "v", "v_prediction", family="sd2")
    base = load_base("sd2", tmp_path / "v", torch.device("cpu"), torch.float32)
    latents, noise = torch.ones(1, 4, 2, 2), torch.full((1, 4, 2, 2), 3.0)
    first, last = torch.tensor([0]), torch.tensor([999])
    torch.testing.assert_close(base.noise_schedule.target(latents, noise, first), noise, rtol=0.05, atol=0)
    torch.testing.assert_close(base.noise_schedule.target(latents, noise, last), -latents, rtol=0, atol=0.3)


def test_text_encoders_are_read_anew_each_time(family: Family, base: Base) -> None:
    spoiled = base.open_text_encoders()
    with torch.no_grad():
        for network in spoiled.networks:
            for param in network.module.parameters():
                param.zero_()
    assert encode(base, ["a cat"])[0]["states"].any()
    assert len(spoiled.networks) == (2 if family == "sdxl" else 1)


def test_a_base_of_another_family_is_refused(family: Family, folder: Path) -> None:
    wrong = next(other for other in FAMILIES if other != family)
    with pytest.raises(BadInput, match=f"of the family {family}, not {wrong}"):
        load_base(wrong, folder, torch.device("cpu"), torch.float32)
