"""Specs that no worker could or should run: each refused with a pointer to what is wrong, and none queued."""

import itertools
from collections.abc import Iterator
from typing import Any

import httpx

from core.db.workers import record_worker
from core.domain.spec import MAX_RANK, MAX_RESOLUTION, MAX_STEPS
from tests.app.conftest import LiveApi
from tests.app.factory import add_dataset, add_model

HUGE = (2**33, 2**63, 2**64, 10**30)
WHOLE: dict[str, tuple[int, int]] = {
    "/adapter/rank": (1, MAX_RANK),
    "/text_encoder/rank": (1, MAX_RANK),
    "/steps": (1, MAX_STEPS),
    "/epochs": (1, 10_000),
    "/batch_size": (1, 256),
    "/gradient_accumulation": (1, 256),
    "/resolution": (64, MAX_RESOLUTION),
    "/seed": (0, 2**32 - 1),
    "/schedule/warmup_steps": (0, MAX_STEPS),
    "/loss/prior_preservation/num_images": (0, 1000),
    "/loss/prior_preservation/batch_size": (1, 64),
    "/captions/keep_tokens": (0, 20),
    "/validation/every": (1, MAX_STEPS),
    "/validation/early_stopping/patience": (1, 1000),
    "/checkpoints/every": (1, MAX_STEPS),
    "/checkpoints/keep": (1, 20),
    "/samples/every": (1, MAX_STEPS),
    "/samples/num_steps": (1, 150),
    "/samples/seed": (0, 2**32 - 1),
    "/priority": (-100, 100),
    "/max_duration_seconds": (60, 7 * 86_400),
}
"""Fields that are whole numbers, with their bounds."""
RATES: dict[str, tuple[float, float]] = {
    "/adapter/alpha": (0, 1024),
    "/adapter/dropout": (0, 1),
    "/adapter/ema": (0, 1),
    "/text_encoder/learning_rate": (0, 1),
    "/optimizer/learning_rate": (0, 1),
    "/optimizer/weight_decay": (0, 1),
    "/loss/huber_c": (0, 10),
    "/loss/min_snr_gamma": (0, 100),
    "/loss/noise_offset": (0, 1),
    "/loss/prior_preservation/weight": (0, 10),
    "/captions/dropout": (0, 1),
    "/validation/early_stopping/min_delta": (0, 1),
    "/samples/guidance_scale": (1, 30),
    "/samples/guidance_rescale": (0, 1),
    "/samples/guidance_start": (0, 1),
    "/samples/guidance_stop": (0, 1),
}
OF_THE_MODEL = {
    *("/resolution", "/batch_size", "/loss/prior_preservation/num_images", "/loss/prior_preservation/batch_size"),
    *("/text_encoder/rank", "/text_encoder/learning_rate", "/validation/early_stopping/patience"),
    "/schedule/warmup_steps",
}
"""Fields whose bounds are fine, and the toy model has narrower ones or needs more to be said."""
NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999")
TEXTS: dict[str, list[Any]] = {
    "/name": ["", "x" * 201, "a\nb", "\x7f", 5],
    "/trigger": ["", "x" * 201, "a\tb", ["x"]],
    "/preset": ["best", "", 1],
    "/init_adapter": ["x" * 65, 7],
    "/adapter/type": ["loha", 1],
    "/adapter/targets": ["everything", 1],
    "/precision": ["fp8", 16],
    "/gradient_checkpointing": ["maybe", 2],
    "/optimizer/name": ["sgd", 1],
    "/schedule/name": ["zigzag", 1],
    "/loss/type": ["l1", 1],
    "/loss/prior_preservation/class_prompt": ["", "x" * 1001, "a\nb"],
    "/captions/template": ["{x}", "{", "{}", "{trigger.__class__}", "{trigger:>1000000000}", "{caption!r}", "x" * 501],
    "/samples/prompts": [["p"] * 17, "p", {}],
    "/evaluation": ["maybe", 1],
    "/webhook/url": ["ftp://x", "x", "http://" + "x" * 3000, "http://user@example.com"],
    "/metadata": [{str(number): "" for number in range(17)}, "x", []],
    "/flip": ["maybe", 2],
    "/masks": ["maybe", 2],
    "/bucketing": ["maybe", 2],
    "/rsloras": [True],
    "/adapter/ranks": [4],
}


def nest(pointer: str, value: object) -> dict[str, Any]:
    """The spec that has ``value`` at the pointer."""
    for name in reversed(pointer.lstrip("/").split("/")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def monstrous() -> Iterator[tuple[str, dict[str, Any]]]:
    for pointer, (low, high) in WHOLE.items():
        for value in (low - 1, high + 1, *HUGE, 1.5, "many"):
            yield pointer, nest(pointer, value)
    for pointer, (low, high) in RATES.items():
        for rate in (low - 1e-9, high + 1e-3, 1e300, "fast"):
            yield pointer, nest(pointer, rate)
    for pointer, texts in TEXTS.items():
        for text in texts:
            yield pointer, nest(pointer, text)


def post(api: LiveApi, body: dict[str, Any]) -> httpx.Response:
    return api.client.post("/jobs", json=body)


def check(answer: httpx.Response, pointer: str) -> None:
    assert answer.status_code == 422, (pointer, answer.request.content[:300], answer.text)
    problem = answer.json()
    assert problem["type"] == "/problems/invalid-spec"
    assert any(found == pointer or found.startswith(f"{pointer}/") for found in problem["errors"]), (pointer, problem)


def test_two_hundred_specs_out_of_bounds(api: LiveApi) -> None:
    body, specs = {"model": add_model(api), "dataset": add_dataset(api), "trigger": "toy"}, list(monstrous())
    assert len(specs) >= 200
    for pointer, spec in specs:
        check(post(api, {**body, **spec}), pointer)
    assert api.client.get("/jobs").json()["data"] == []


def test_rates_that_are_no_numbers(api: LiveApi) -> None:
    model, dataset = add_model(api), add_dataset(api)
    for pointer in RATES:
        for number in NO_NUMBERS:
            spec = str(nest(pointer, 0)).replace("'", '"').replace("0", number)
            content = f'{{"model": "{model}", "dataset": "{dataset}", {spec[1:]}'
            check(api.client.post("/jobs", content=content, headers={"Content-Type": "application/json"}), pointer)


def test_whole_numbers_of_any_length(api: LiveApi) -> None:
    body = {"model": add_model(api), "dataset": add_dataset(api)}
    for pointer in WHOLE:
        check(post(api, {**body, **nest(pointer, 10**4000)}), pointer)


def test_nothing_is_refused_at_its_bounds_alone(api: LiveApi) -> None:
    """The table above says the true bounds: at them, whatever else may be wrong, this is not."""
    body = {"model": add_model(api), "dataset": add_dataset(api), "trigger": "toy"}
    for pointer, bounds in WHOLE.items():
        for value in bounds:
            answer = api.client.post("/jobs?dry_run=true", json={**body, **nest(pointer, value)})
            errors = answer.json().get("errors", {}) if answer.status_code == 422 else {}
            assert answer.status_code == 200 or (pointer in OF_THE_MODEL and errors), (pointer, value, answer.text)


def test_what_fits_in_no_device_is_refused(own_api: LiveApi) -> None:
    """A thousand parameters in the base at two bytes, four thousand for each rank at eight."""
    body = {"model": add_model(own_api), "dataset": add_dataset(own_api), "trigger": "toy", "precision": "bf16"}
    large = {**body, "adapter": {"rank": 256}}
    post(own_api, large).raise_for_status()  # nobody knows yet what there is
    see(own_api, "small", memory_bytes=2_000 + 4 * 4_000 * 8)
    check(post(own_api, large), "/adapter/rank")
    answer = post(own_api, {**body, "adapter": {"rank": 4}})
    assert answer.status_code == 201, answer.text
    see(own_api, "small", memory_bytes=1_000)
    check(post(own_api, {**body, "adapter": {"rank": 1}}), "/model")
    see(own_api, "small", memory_bytes=None)  # a worker begun anew says nothing until its first job
    post(own_api, large).raise_for_status()
    see(own_api, "small", memory_bytes=1_000)
    see(own_api, "large", memory_bytes=10**9)
    post(own_api, large).raise_for_status()


def see(api: LiveApi, worker_id: str, memory_bytes: int | None) -> None:
    with api.sessions.begin() as session:
        record_worker(
            session, worker_id=worker_id, device="cpu", device_name="x", memory_bytes=memory_bytes, job_id=None,
            warm_models=(),
        )  # fmt: skip


def test_specs_nested_without_end(api: LiveApi) -> None:
    """Also to a depth that the JSON is read to, but that nothing may follow by calls within calls."""
    shapes = [(b'{"adapter": ', b"}"), (b"[", b"]")]
    for depth, (start, end) in itertools.product((100, 500, 700, 900, 10_000), shapes):
        content = b'{"adapter": ' + start * depth + b"1" + end * depth + b"}"
        answer = api.client.post("/jobs", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, answer.text
