"""The noise process and the losses against the papers' formulas."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.model import ModelInfo
from tests.fixtures.bases import make_plan, write_pictures, write_random_base
from tests.fixtures.bench import encode_set
from worker.engine.adapters import adapters_disabled, attach_all
from worker.engine.device import choose_runtime
from worker.engine.families import load_base
from worker.engine.families.noise import DiffusionSchedule, FlowSchedule
from worker.engine.families.protocol import Posterior
from worker.engine.observer import RecordingObserver
from worker.engine.training.caching import start_caching
from worker.engine.training.data import EMPTY, Example
from worker.engine.training.objective import NoisedBatch, compute_prior_loss, per_sample_loss
from worker.engine.training.prior import Prior, draw_prior

TIMESTEPS = torch.tensor([0, 100, 500, 999])


def process(prediction_type: str, *, zero_snr: bool = False) -> DiffusionSchedule:
    return DiffusionSchedule(
        DDPMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            prediction_type=prediction_type,
            rescale_betas_zero_snr=zero_snr,
        )
    )


def test_min_snr_weights_are_the_papers() -> None:
    epsilon, v = process("epsilon"), process("v_prediction")
    alphas = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).alphas_cumprod[TIMESTEPS]
    snr = alphas / (1 - alphas)
    clipped = torch.minimum(snr, torch.tensor(5.0))
    torch.testing.assert_close(epsilon.min_snr_weights(TIMESTEPS, 5.0), clipped / snr)
    torch.testing.assert_close(v.min_snr_weights(TIMESTEPS, 5.0), clipped / (snr + 1))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_zero_terminal_snr_gives_finite_weights(prediction_type: str) -> None:
    weights = process(prediction_type, zero_snr=True).min_snr_weights(TIMESTEPS, 5.0)
    assert torch.isfinite(weights).all()


def test_the_flow_leads_from_noise_to_the_picture() -> None:
    """x0 = x_t - t v, on the straight line between them (arXiv 2209.03003)."""
    flow = FlowSchedule({})
    latents, noise, timesteps = torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8), torch.tensor([0.0, 100, 512.5, 1000])
    noisy, velocity = flow.add_noise(latents, noise, timesteps), flow.target(latents, noise, timesteps)
    torch.testing.assert_close(noisy - (timesteps / 1000).view(-1, 1, 1, 1) * velocity, latents)
    assert torch.equal(noisy[0], latents[0]) and torch.equal(noisy[3], noise[3])


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow"])
def test_the_right_answer_restores_the_picture(kind: str) -> None:
    noising = FlowSchedule({}) if kind == "flow" else process(kind)
    latents, noise, timesteps = torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8), torch.tensor([0, 100, 500, 999])
    noisy, target = noising.add_noise(latents, noise, timesteps), noising.target(latents, noise, timesteps)
    torch.testing.assert_close(noising.predict_x0(noisy, target, timesteps), latents, rtol=1e-4, atol=1e-4)
    errors = (noising.predict_x0(noisy, target + 1, timesteps) - latents).abs().mean(dim=(1, 2, 3))
    assert errors.diff().gt(0).all(), "the same mistake is worse where there is more noise"


def test_a_batch_sees_all_levels_of_noise() -> None:
    """One timestep from each eighth, in no order; and over many batches each timestep as often as any other."""
    rng, batches = torch.Generator().manual_seed(0), []
    for _ in range(2_000):
        batches.append(process("epsilon").draw_timesteps(8, rng, 64))
        assert sorted((batches[-1] * 8 // 1000).tolist()) == list(range(8))
    drawn = torch.stack(batches)
    assert drawn.float().mean(dim=0) == pytest.approx(499.5, abs=25), "no place in the batch has its own part"
    assert torch.histc(drawn.float(), 20, 0, 1000) == pytest.approx(800, rel=0.15)
    assert drawn.min() >= 0 and drawn.max() <= 999


@pytest.mark.parametrize(("shift", "median"), [(1.0, 500), (3.0, 750)])
def test_flow_timesteps_are_drawn_around_where_they_teach_most(shift: float, median: float) -> None:
    drawn = FlowSchedule({"shift": shift}).draw_timesteps(20_000, torch.Generator().manual_seed(0), 64)
    assert drawn.median() == pytest.approx(median, abs=10)
    assert drawn.min() > 0 and drawn.max() < 1000 and (drawn < 250).float().mean() < 0.15


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_flow_sampler_takes_eulers_steps(shift: float) -> None:
    """A velocity that is the same everywhere is integrated without error; the start is a thousandth short of noise."""
    latents, noise = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    sampler, now = FlowSchedule({"shift": shift}).open_sampler(64), noise
    sampler.set_timesteps(10)
    for timestep in sampler.timesteps:
        now = sampler.step(noise - latents, timestep, now).prev_sample
    torch.testing.assert_close(now, latents, atol=1e-2, rtol=0)
    share = sampler.timesteps[5] / 1000  # halfway
    assert float(share) == pytest.approx(shift * 0.5 / (1 + (shift - 1) * 0.5), abs=0.01)


@pytest.mark.parametrize("kind", ["exponential", "linear"])
@pytest.mark.parametrize("image_seq_len", [256, 1024, 4096])
def test_a_dynamic_shift_is_diffusers(kind: str, image_seq_len: int) -> None:
    theirs = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type=kind)
    mu = calculate_shift(image_seq_len)
    ours = FlowSchedule(theirs.config)
    shift, times = ours.find_shift(image_seq_len), torch.linspace(0.1, 1, 10)
    torch.testing.assert_close(shift * times / (1 + (shift - 1) * times), theirs.time_shift(mu, 1.0, times))
    theirs.set_timesteps(sigmas=np.linspace(1, 0.1, 10), mu=mu)
    sampler = ours.open_sampler(image_seq_len)
    sampler.set_timesteps(10)
    torch.testing.assert_close(sampler.sigmas, theirs.sigmas, atol=2e-3, rtol=0)


def test_larger_images_are_trained_with_more_noise(random_base: tuple[Path, ModelInfo], tmp_path: Path) -> None:
    """If the base's scheduler shifts by size; another's timesteps are the same for every size."""
    manifest, _ = write_pictures(tmp_path / "pictures", [(64, 64)] * 2)
    write_random_base(tmp_path / "base", "flow")
    for dynamic in (True, False):
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=dynamic).save_pretrained(tmp_path / "base" / "scheduler")
        base = load_base("sd1", tmp_path / "base", torch.device("cpu"), torch.float32)
        plan = make_plan(manifest, random_base[1])
        drawn = [
            NoisedBatch(plan, base, 0, [Example(Posterior(torch.zeros(4, side, side), torch.ones(4, side, side)), {})])
            for side in (16, 64)
        ]
        assert (drawn[0].timesteps < drawn[1].timesteps).all() == dynamic
        assert torch.equal(drawn[0].timesteps, drawn[1].timesteps) != dynamic


def test_v_is_what_undoes_the_noise() -> None:
    """x0 = sqrt(a) x_t - sqrt(1 - a) v (arXiv 2202.00512, appendix D)."""
    v = process("v_prediction")
    latents, noise = torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8)
    noisy = v.add_noise(latents, noise, TIMESTEPS)
    alphas = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).alphas_cumprod[TIMESTEPS]
    a = alphas.view(-1, 1, 1, 1)
    torch.testing.assert_close(a.sqrt() * noisy - (1 - a).sqrt() * v.target(latents, noise, TIMESTEPS), latents)


def test_a_draw_depends_on_seed_and_step_alone(random_base: tuple[Path, ModelInfo], tmp_path: Path) -> None:
    manifest, _ = write_pictures(tmp_path, [(64, 64)] * 2)
    examples = [Example(Posterior(torch.zeros(4, 16, 16), torch.ones(4, 16, 16)), {})] * 2
    base = load_base("sd1", random_base[0], torch.device("cpu"), torch.float32)

    def draw(step: int, **spec: object) -> NoisedBatch:
        return NoisedBatch(make_plan(manifest, random_base[1], **spec), base, step, examples)

    first, again = draw(3), draw(3)
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.latents, again.latents)
    assert torch.equal(first.timesteps, again.timesteps)
    assert not torch.equal(first.noise, draw(4).noise)
    assert not torch.equal(first.noise, draw(3, seed=1).noise)
    offset = draw(3, loss={"noise_offset": 0.5}).noise - first.noise
    torch.testing.assert_close(offset, offset.mean(dim=(2, 3), keepdim=True).expand_as(offset))
    assert offset.abs().max() > 0.01


def test_huber_is_square_near_zero_and_linear_far_from_it(random_base: tuple[Path, ModelInfo], tmp_path: Path) -> None:
    manifest, _ = write_pictures(tmp_path, [(64, 64)])
    plan = make_plan(manifest, random_base[1], loss={"type": "huber", "huber_c": 0.1})
    zero = torch.zeros(1, 1, 1, 1)
    near, far = (per_sample_loss(plan, torch.full_like(zero, x), zero, None).item() for x in (1e-3, 10.0))
    assert near == pytest.approx(1e-6, rel=0.01)
    assert far == pytest.approx(2 * 0.1 * 10, rel=0.02)


def test_a_mask_counts_only_what_it_shows_however_small(random_base: tuple[Path, ModelInfo], tmp_path: Path) -> None:
    manifest, _ = write_pictures(tmp_path, [(64, 64)])
    plan = make_plan(manifest, random_base[1])
    target = torch.zeros(2, 4, 8, 8)
    predicted = target.clone()
    predicted[:, :, 0, 0] = 3.0
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, :, 0, 0] = 1.0
    masks[1, :, 4:, 4:] = 0.5
    assert per_sample_loss(plan, predicted, target, masks).tolist() == [9.0, 0.0]


def test_a_mask_reaches_the_loss_at_the_size_of_the_latents(
    random_base: tuple[Path, ModelInfo], tmp_path: Path
) -> None:
    manifest, files = write_pictures(tmp_path, [(64, 64), (64, 64)], masked=1)
    plan = make_plan(manifest, random_base[1], flip=True)
    base = load_base("sd1", random_base[0], torch.device("cpu"), torch.float32)
    cache = encode_set(base, plan, files, tmp_path / "cache")
    mask, mirrored = cache.examples[0, False].mask, cache.examples[0, True].mask
    assert mask is not None and mirrored is not None
    assert mask.shape == (1, *cache.examples[0, False].posterior.mean.shape[1:])
    assert (mask[0, :, 0] == 1).all() and (mask[0, :, -1] == 0).all()
    torch.testing.assert_close(mirrored, mask.flip(-1))
    assert cache.examples[1, False].mask is None
    draw = NoisedBatch(plan, base, 0, [cache.examples[0, False], cache.examples[1, False]])
    assert draw.masks is not None
    assert (draw.masks[1] == 1).all()


def test_class_pictures_come_with_their_prompt_anothers_or_none(random_base: tuple[Path, ModelInfo]) -> None:
    texts = [f"thing {number}" for number in range(50)]
    manifest = DatasetManifest(
        images=(
            ManifestImage(
                name="a.png", key="a", sha256="0", size=1, width=64, height=64, caption="", dhash="0", sharpness=99
            ),
        )
    )
    loss = {"prior_preservation": {"class_prompt": "a thing", "num_images": 40, "batch_size": 8}}
    plan = make_plan(manifest, random_base[1], loss=loss).model_copy(update={"prior_prompts": tuple(texts)})
    examples = [Example(Posterior(torch.tensor(row), torch.tensor(0)), {}) for row in range(40)]
    prior = Prior(examples, texts[:40])
    counts = {"own": 0, "none": 0, "another's": 0}
    seen = set()
    for number in range(500):
        for example, text in zip(*prior.pick(plan, number), strict=True):
            own = text == texts[int(example.posterior.mean)]
            counts["none" if text == EMPTY else "own" if own else "another's"] += 1
            seen.add(text)
    total = sum(counts.values())
    assert total == 8 * 500
    assert seen == {EMPTY, *texts}, "those without a picture too"
    assert counts["none"] / total == pytest.approx(0.25, abs=0.03)
    assert counts["another's"] / total == pytest.approx(0.35 * 49 / 50, abs=0.03)


def test_an_adapter_that_changed_nothing_has_no_prior_loss(random_base: tuple[Path, ModelInfo], tmp_path: Path) -> None:
    manifest, _ = write_pictures(tmp_path, [(64, 64)])
    prior = {"prior_preservation": {"class_prompt": "a thing", "num_images": 3}}
    plan = make_plan(manifest, random_base[1], loss=prior, precision="fp32")
    base = load_base("sd1", random_base[0], torch.device("cpu"), torch.float32)
    conditioning = {
        "a thing": base.open_text_encoders().encode(["a thing"])[0],
        "": base.open_text_encoders().encode([""])[0],
    }
    runtime = choose_runtime(plan, torch.device("cpu"), random_base[1], 1)
    drawn = draw_prior(base, plan, runtime, conditioning, tmp_path, start_caching(plan, RecordingObserver()))
    again = draw_prior(base, plan, runtime, conditioning, tmp_path, start_caching(plan, RecordingObserver()))
    assert len(drawn.examples) == 3 and len(list(tmp_path.glob("*.prior"))) == 1
    assert all(
        torch.equal(a.posterior.mean, b.posterior.mean) for a, b in zip(drawn.examples, again.examples, strict=True)
    )
    examples, texts = drawn.pick(plan, 0)
    draw = NoisedBatch(plan, base, 0, examples, stream="prior-")
    rows = [conditioning[text] for text in texts]
    attach_all(base, plan)
    with adapters_disabled([base.denoiser]), torch.no_grad():
        teacher_prediction = draw.predict(base, rows, torch.device("cpu"))
    assert compute_prior_loss(base, plan, draw, rows, teacher_prediction, torch.device("cpu")).item() == 0.0
