"""How a spec, a set and a base become numbers, and what is refused on the way."""

import pytest
from pydantic import ValidationError

from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.errors import InvalidSpec
from core.domain.estimate import Measured, count_images, count_samples, count_step_samples, estimate
from core.domain.model import Calibration, Defaults, ModelInfo
from core.domain.plan import TrainPlan
from core.domain.resolve import resolve
from core.domain.spec import TrainingSpec
from core.domain.tokens import count_least_tokens

DEFAULTS = Defaults(
    adapter_type="lora",
    rank=8,
    targets="attention",
    learning_rate=1e-3,
    schedule="cosine",
    batch_size=8,
    steps_per_image=20,
    min_steps=100,
    max_steps=500,
    min_snr_gamma=5.0,
    sample_num_steps=20,
    sample_guidance_scale=4.0,
)
MODEL = ModelInfo(
    id="tiny",
    family="sd1",
    resolution=64,
    resolution_step=8,
    sha256="0" * 64,
    num_parameters=1000,
    adapter_dims={"lora/attention": 1000, "lora/all": 3000, "text_encoder/attention": 500},
    defaults=DEFAULTS,
    example_prompts=("a {trigger}", "a cat"),
)


def image(number: int, caption: str | None = "a blip", size: tuple[int, int] = (64, 64)) -> ManifestImage:
    return ManifestImage(
        name=f"{number}.png",
        key=f"k{number}",
        sha256=f"{number:064x}",
        size=1,
        width=size[0],
        height=size[1],
        caption=caption,
        dhash="0",
        sharpness=99,
    )


def plan(images: int = 12, **spec: object) -> TrainPlan:
    return resolve(TrainingSpec.model_validate(spec), manifest(images), MODEL)


def manifest(images: int = 12) -> DatasetManifest:
    return DatasetManifest(images=tuple(image(number) for number in range(images)))


@pytest.mark.parametrize(
    ("images", "preset", "steps"),
    [(12, "auto", 240), (1, "auto", 100), (100, "auto", 500), (12, "quick", 100), (12, "style", 360)],
)
def test_steps_grow_with_the_set_within_the_presets_bounds(images: int, preset: str, steps: int) -> None:
    assert plan(images, preset=preset, trigger="blip").steps == steps


def test_epochs_count_full_batches() -> None:
    whole = {"validation": {"fraction": 0}}
    assert plan(12, epochs=3, batch_size=5, **whole).steps == 9
    assert plan(12, epochs=3, batch_size=5, gradient_accumulation=2, **whole).steps == 5
    assert plan(12, epochs=3, batch_size=5).steps == 6  # two of the twelve are held out


def test_an_epoch_sees_every_bucket() -> None:
    sizes = [(64, 64), (64, 64), (64, 64), (128, 64), (64, 128)]
    images = DatasetManifest(images=tuple(image(number, size=size) for number, size in enumerate(sizes)))
    assert resolve(TrainingSpec(epochs=2, batch_size=8), images, MODEL).steps == 6
    assert resolve(TrainingSpec(epochs=2, batch_size=2, gradient_accumulation=3), images, MODEL).steps == 3


def test_epochs_are_bounded_as_steps_are() -> None:
    with pytest.raises(InvalidSpec) as refusal:
        plan(50, epochs=10_000, batch_size=1)
    assert list(refusal.value.errors) == ["/epochs"]


@pytest.mark.parametrize(
    ("images", "fraction", "held_out"),
    [(11, "auto", 0), (12, "auto", 2), (40, "auto", 6), (500, "auto", 16), (4, 0.5, 2), (3, 0.1, 1), (1, 0.5, 0)],
)
def test_images_are_held_out_by_number(images: int, fraction: str | float, held_out: int) -> None:
    made = plan(images, validation={"fraction": fraction})
    assert len(made.held_out_images) == held_out
    assert len(made.training_images) == images - held_out
    assert bool(made.validation_steps) == bool(held_out)


def test_repeats_count_in_epochs_and_not_in_what_the_presets_take() -> None:
    images = tuple(image(n).model_copy(update={"repeats": 3 if n < 2 else 1}) for n in range(4))
    repeated = DatasetManifest(images=images)
    assert resolve(TrainingSpec(epochs=2, batch_size=2), repeated, MODEL).steps == 2 * 4
    assert resolve(TrainingSpec(), repeated, MODEL).steps == resolve(TrainingSpec(), manifest(4), MODEL).steps
    assert [planned.repeats for planned in resolve(TrainingSpec(), repeated, MODEL).images] == [3, 3, 1, 1]


def with_class_images(*captions: str | None) -> DatasetManifest:
    others = [image(100 + n, caption).model_copy(update={"role": "class"}) for n, caption in enumerate(captions)]
    return DatasetManifest(images=(*manifest(12).images, *others))


def test_regularisation_images_take_the_place_of_class_pictures() -> None:
    made = resolve(TrainingSpec(trigger="zap", batch_size=3), with_class_images("a dog", "a dog", None), MODEL)
    assert len(made.images) == 12 and {planned.key for planned in made.images}.isdisjoint({"k100", "k101", "k102"})
    assert [planned.caption for planned in made.class_images] == ["a dog", "a dog", ""], "never with the trigger"
    assert (made.prior_num_images, made.prior_prompts, made.prior_weight) == (3, ("a dog",), 1.0)
    assert made.class_images_per_batch == 3
    assert not any(planned.held_out for planned in made.class_images)
    assert count_images(made) == count_images(plan(trigger="zap", batch_size=3)), "none is drawn"


def test_a_class_prompt_captions_the_regularisation_images_that_have_no_caption() -> None:
    spec = TrainingSpec.model_validate({"loss": {"prior_preservation": {"class_prompt": "a toy", "weight": 0.5}}})
    made = resolve(spec, with_class_images("a dog", None), MODEL)
    assert [planned.caption for planned in made.class_images] == ["a dog", "a toy"]
    assert (made.prior_prompts, made.prior_weight) == (("a dog", "a toy"), 0.5)
    silent = resolve(TrainingSpec(), with_class_images(None), MODEL)
    assert silent.prior_prompts == ("",)


def test_regularisation_images_may_be_left_aside_but_not_drawn_instead() -> None:
    aside = resolve(
        TrainingSpec.model_validate({"loss": {"prior_preservation": {"num_images": 0}}}), with_class_images("x"), MODEL
    )
    assert (aside.class_images, aside.prior_num_images) == ((), 0)
    drawn = TrainingSpec.model_validate({"loss": {"prior_preservation": {"num_images": 8, "class_prompt": "a toy"}}})
    with pytest.raises(InvalidSpec, match="has 2 regularisation images") as refusal:
        resolve(drawn, with_class_images("x", "y"), MODEL)
    assert list(refusal.value.errors) == ["/loss/prior_preservation/num_images"]


@pytest.mark.parametrize("length", [75, 150, 225])
def test_a_plan_says_how_many_tokens_are_encoded(length: int) -> None:
    assert plan(captions={"max_token_length": length}).max_token_length == length
    assert plan().max_token_length == 225
    before = {**plan().model_dump(mode="json")}
    del before["max_token_length"]
    assert TrainPlan.model_validate(before).max_token_length == 75, "plans of before go on as they began"


@pytest.mark.parametrize(
    ("text", "least"),
    [("", 0), ("a red hat", 3), ("it's 2026!", 7), ("a, b,, c", 5), ("über-großes Haus", 4), ("a_b", 3), ("猫と犬", 1)],
)
def test_words_digits_and_marks_are_tokens_of_their_own(text: str, least: int) -> None:
    assert count_least_tokens(text) == least


def test_what_is_held_out_depends_on_the_seed_and_the_pictures_alone() -> None:
    first, again, other = (plan(40, seed=seed, steps=10 + seed) for seed in (0, 0, 1))
    assert first.held_out_images == again.held_out_images
    assert first.held_out_images != other.held_out_images


def test_a_picture_that_came_twice_is_on_one_side_only() -> None:
    twice = DatasetManifest(images=(*manifest(12).images, *manifest(12).images))
    made = resolve(TrainingSpec(), twice, MODEL)
    assert not {row.sha256 for row in made.held_out_images} & {row.sha256 for row in made.training_images}


@pytest.mark.parametrize(
    ("name", "rate", "betas"),
    [
        ("adamw", 1e-3, (0.9, 0.999)),
        ("lion", 1e-3 / 3, (0.9, 0.99)),
        ("prodigy", 1.0, (0.9, 0.999)),
        ("adafactor", 1e-3, None),
    ],
)
def test_an_optimizer_brings_its_own_rate_and_betas(name: str, rate: float, betas: object) -> None:
    made = plan(optimizer={"name": name})
    assert (made.learning_rate, made.betas) == (pytest.approx(rate), betas)
    assert plan(optimizer={"name": name, "learning_rate": 0.5}).learning_rate == 0.5


def test_the_text_encoder_has_a_rate_and_a_rank_of_its_own() -> None:
    assert plan().text_encoder_rank is None
    made = plan(text_encoder={"train": True})
    assert (made.text_encoder_rank, made.text_encoder_learning_rate) == (8, 5e-4)
    with pytest.raises(InvalidSpec, match="prodigy"):
        plan(text_encoder={"train": True, "learning_rate": 0.1}, optimizer={"name": "prodigy"})


def test_prior_preservation_needs_a_prompt_from_the_spec_or_the_model() -> None:
    assert plan().prior_num_images == 0
    with pytest.raises(InvalidSpec, match="class_prompt"):
        plan(loss={"prior_preservation": {"num_images": 8}})
    made = plan(loss={"prior_preservation": {"num_images": 8, "class_prompt": "a toy"}}, batch_size=3)
    assert (made.prior_num_images, made.prior_prompts) == (8, ("a toy",))
    assert (made.class_images_per_batch, plan(batch_size=3).class_images_per_batch) == (3, 0)
    assert plan(loss={"prior_preservation": {"num_images": 0, "class_prompt": "a toy"}}).prior_prompts == ()


@pytest.mark.parametrize("field", [{"class_prompt": "a toy"}, {"weight": 2.0}, {"batch_size": 4}])
def test_what_tunes_prior_preservation_needs_class_pictures(field: dict[str, object]) -> None:
    with pytest.raises(InvalidSpec, match="num_images"):
        plan(loss={"prior_preservation": field})
    assert plan(loss={"prior_preservation": {**field, "num_images": 0}}).prior_batch_size is None, "it is off"


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"steps": 20, "schedule": {"name": "polynomial", "warmup_steps": 20}}, "/schedule/warmup_steps"),
        ({"schedule": {"name": "polynomial"}, "optimizer": {"learning_rate": 1e-7}}, "/optimizer/learning_rate"),
        ({"validation": {"fraction": 0, "early_stopping": {"patience": 3}}}, "/validation/early_stopping/patience"),
        ({"samples": {"prompts": []}, "checkpoints": {"adapters": "last"}}, "/checkpoints/adapters"),
        ({"text_encoder": {"rank": 8}}, "/text_encoder/train"),
        ({"trigger": "a " * 76, "captions": {"max_token_length": 75}}, "/trigger"),
        ({"text_encoder": {"learning_rate": 1e-5}}, "/text_encoder/train"),
    ],
)
def test_what_could_only_fail_or_do_nothing_is_refused(spec: dict[str, object], pointer: str) -> None:
    with pytest.raises(InvalidSpec) as refusal:
        plan(**spec)
    assert list(refusal.value.errors) == [pointer]


def test_what_is_next_to_it_is_taken() -> None:
    assert plan(steps=20, schedule={"name": "polynomial", "warmup_steps": 19}).warmup_steps == 19
    assert plan(validation={"early_stopping": {"patience": 3}}).patience == 3
    assert plan(text_encoder={"train": True, "rank": 8}).text_encoder_rank == 8
    assert plan(trigger="a " * 75, captions={"max_token_length": 75}).max_token_length == 75


def test_null_is_the_same_as_absent_at_every_level() -> None:
    assert plan(loss={"prior_preservation": None, "type": None}, seed=None) == plan()


def test_the_model_gives_what_the_spec_leaves_open() -> None:
    made = plan()
    assert (made.rank, made.alpha, made.targets, made.learning_rate) == (8, 8.0, "attention", 1e-3)
    assert (made.batch_size, made.schedule, made.min_snr_gamma) == (8, "cosine", 5.0)


def test_an_explicit_null_turns_min_snr_off() -> None:
    assert plan(loss={"min_snr_gamma": None}).min_snr_gamma is None


def test_alpha_follows_the_rank_unless_given() -> None:
    assert plan(adapter={"rank": 16}).alpha == 16
    assert plan(adapter={"rank": 16, "alpha": 4}).alpha == 4


@pytest.mark.parametrize(
    ("caption", "spec", "expected"),
    [
        ("a red hat", {"trigger": "blip"}, "blip, a red hat"),
        ("a large Blip", {"trigger": "blip"}, "a large Blip"),
        ("a blip-like hat, (BLIP)", {"trigger": "blip"}, "a blip-like hat, (BLIP)"),
        ("a pink flower", {"trigger": "ink"}, "ink, a pink flower"),
        ("<s1> by the sea", {"trigger": "<s1>"}, "<s1> by the sea"),
        (None, {"trigger": "blip"}, "blip"),
        ("a red hat", {}, "a red hat"),
        (
            "a red hat",
            {"trigger": "blip", "captions": {"template": "photo of {trigger}: {caption}"}},
            "photo of blip: a red hat",
        ),
        (None, {"trigger": "blip", "captions": {"template": "photo of {trigger}, {caption}"}}, "photo of blip"),
    ],
)
def test_the_training_caption(caption: str | None, spec: dict[str, object], expected: str) -> None:
    one = DatasetManifest(images=(image(1, caption),))
    assert resolve(TrainingSpec.model_validate(spec), one, MODEL).images[0].caption == expected


def test_prompts_carry_the_trigger_and_may_be_turned_off() -> None:
    assert plan(trigger="blip").sample_prompts == ("a blip", "a cat")
    assert plan().sample_prompts == ("a blip", "a cat"), "without a trigger the captions call it"
    assert plan(samples={"prompts": []}).sample_steps == ()
    assert plan(trigger="x", samples={"prompts": ["{trigger}!"], "every": 100}, steps=250).sample_steps == (
        100,
        200,
        250,
    )


def test_images_keep_their_aspect_unless_bucketing_is_off() -> None:
    wide = DatasetManifest(images=(image(1, size=(200, 100)),))
    bucket = resolve(TrainingSpec(), wide, MODEL).images[0].bucket
    assert (bucket.width, bucket.height) == (88, 40)
    square = resolve(TrainingSpec(bucketing=False), wide, MODEL).images[0].bucket
    assert (square.width, square.height) == (64, 64)


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"resolution": 500}, "/resolution"),
        ({"resolution": 2048}, "/resolution"),
        ({"resolution": 68}, "/resolution"),
    ],
)
def test_what_does_not_fit_the_base_is_refused_with_what_would(spec: dict[str, object], pointer: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        plan(**spec)
    assert pointer in caught.value.errors
    assert "multiple of 8" in caught.value.detail


def test_a_set_without_words_needs_a_trigger() -> None:
    silent = DatasetManifest(images=(image(1, None),))
    with pytest.raises(InvalidSpec, match="set trigger"):
        resolve(TrainingSpec(), silent, MODEL)
    assert resolve(TrainingSpec(trigger="blip"), silent, MODEL).images[0].caption == "blip"


@pytest.mark.parametrize(
    "spec",
    [
        {"steps": 0}, {"steps": 100_001}, {"steps": 10, "epochs": 1}, {"adapter": {"rank": 257}},
        {"adapter": {"rank": 0}},
        {"optimizer": {"learning_rate": float("nan")}}, {"optimizer": {"learning_rate": -1}},
        {"optimizer": {"betas": [0.9, 1.0]}}, {"resolution": 4096}, {"batch_size": 0}, {"seed": -1}, {"seed": 2**32},
        {"trigger": ""}, {"trigger": "a\x00b"}, {"captions": {"template": "{0}"}},
        {"captions": {"template": "{trigger.x}"}},
        {"captions": {"template": "{"}}, {"captions": {"dropout": 1.5}},
        {"captions": {"max_token_length": 77}}, {"samples": {"prompts": ["x"] * 17}},
        {"no_such_field": 1}, {"adapter": {"no_such_field": 1}}, {"precision": "int8"}, {"metadata": {"k": "v" * 513}},
        {"loss": {"min_snr_gamma": 0}}, {"loss": {"noise_offset": float("inf")}}, {"max_duration_seconds": 1},
    ],
)  # fmt: skip
def test_a_spec_out_of_bounds_is_refused(spec: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TrainingSpec.model_validate(spec)


def test_an_estimate_says_what_it_rests_on() -> None:
    made = plan(trigger="blip", steps=100, batch_size=4, samples={"every": 100})
    unknown = estimate(made, MODEL, None)
    assert (unknown.seconds, unknown.peak_memory_bytes) == (None, None)
    assert unknown.adapter_bytes == 8 * 1000 * 2
    calibrated = MODEL.model_copy(
        update={
            "calibration": Calibration(
                device="cpu x2", resolution=64, seconds_per_sample=0.1, start_seconds=5, seconds_per_image=1,
                base_memory_bytes=1000, memory_bytes_per_sample=10,
            )
        }
    )  # fmt: skip
    first = estimate(made, calibrated, None)
    pictures = 2 * 2 + 1 + 2 * 8  # grids, cover, scores
    samples = 400 + 11 * 2 * 8 / 3  # ten evaluations and the base's, of two held-out pictures
    assert first.seconds == pytest.approx(5 + pictures * 1 + samples * 0.1, abs=0.1)
    assert first.peak_memory_bytes == 1040
    assert first.basis == "a few timed steps on cpu x2; no job on this base was measured here yet"
    measured = Measured(
        num_jobs=3, seconds_per_sample=0.2, seconds_per_image=0.5, start_seconds=9, resolution=64,
        peak_memory_bytes=5000,
    )  # fmt: skip
    later = estimate(made, calibrated, measured)
    assert later.seconds == pytest.approx(9 + pictures * 0.5 + samples * 0.2, abs=0.1)
    assert later.peak_memory_bytes == 5000
    assert "3 earlier jobs" in later.basis


def test_an_estimate_counts_class_pictures_and_the_bases_answers_on_them() -> None:
    prior = {"class_prompt": "a toy", "num_images": 8, "batch_size": 6}
    with_them = plan(steps=10, batch_size=4, gradient_accumulation=2, loss={"prior_preservation": prior})
    without = with_them.model_copy(update={"prior_num_images": 0})
    assert count_step_samples(without) == 2 * 4
    assert count_step_samples(with_them) == pytest.approx(2 * (4 + 6 * 4 / 3))
    assert count_samples(with_them) - count_samples(without) == pytest.approx(10 * 2 * 6 * 4 / 3)
    assert count_images(with_them) - count_images(without) == 8


def test_an_estimate_counts_text_encoders_and_takes_dora_for_lora() -> None:
    sizes = {name: estimate(plan(**spec), MODEL, None).adapter_bytes for name, spec in {
        "lora": {}, "dora": {"adapter": {"type": "dora"}}, "text": {"text_encoder": {"train": True, "rank": 2}},
    }.items()}  # fmt: skip
    assert sizes == {"lora": 16_000, "dora": 16_000, "text": 18_000}


def test_min_snr_is_not_for_a_base_that_flows() -> None:
    flowing = MODEL.model_copy(update={"prediction_type": "flow"})
    assert resolve(TrainingSpec(trigger="blip"), manifest(), flowing).min_snr_gamma is None
    with pytest.raises(InvalidSpec, match="flow matching") as refusal:
        resolve(TrainingSpec.model_validate({"trigger": "blip", "loss": {"min_snr_gamma": 5}}), manifest(), flowing)
    assert list(refusal.value.errors) == ["/loss/min_snr_gamma"]


def test_guidance_must_start_before_it_stops() -> None:
    resolved = plan(samples={"guidance_start": 0.2, "guidance_stop": 0.6})
    assert (resolved.sample_guidance_start, resolved.sample_guidance_stop) == (0.2, 0.6)
    with pytest.raises(InvalidSpec, match="must start before it stops") as refusal:
        plan(samples={"guidance_start": 0.6, "guidance_stop": 0.6})
    assert list(refusal.value.errors) == ["/samples/guidance_start"]
    with pytest.raises(InvalidSpec, match="No step of 20") as refusal:
        plan(samples={"guidance_stop": 0.04})
    assert list(refusal.value.errors) == ["/samples/guidance_stop"]


def test_so_few_steps_that_the_models_interval_has_none_are_all_guided() -> None:
    defaults = DEFAULTS.model_copy(update={"sample_guidance_start": 0.2, "sample_guidance_stop": 0.6})
    model = MODEL.model_copy(update={"defaults": defaults})
    spec = TrainingSpec.model_validate({"trigger": "blip", "samples": {"num_steps": 1}})
    resolved = resolve(spec, manifest(), model)
    assert (resolved.sample_guidance_start, resolved.sample_guidance_stop) == (0.0, 1.0)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "cosine_with_restarts", "polynomial"])
@pytest.mark.parametrize("warmup", [100, 101, 100_000])
def test_a_warm_up_of_all_steps_is_refused(schedule: str, warmup: int) -> None:
    with pytest.raises(InvalidSpec, match="less than the 100 steps") as refused:
        plan(steps=100, schedule={"name": schedule, "warmup_steps": warmup})
    assert list(refused.value.errors) == ["/schedule/warmup_steps"]
    assert plan(steps=100, schedule={"name": schedule, "warmup_steps": 99}).warmup_steps == 99
