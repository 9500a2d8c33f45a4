"""Any JSON at all: a spec within its bounds, and a plan of it, or the refusals that there are for that."""

import json
import math
from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from core.domain.dataset import DatasetManifest, ManifestImage
from core.domain.errors import InvalidSpec
from core.domain.init_adapter import InitAdapterSource
from core.domain.plan import InitAdapter, TrainPlan
from core.domain.resolve import resolve
from core.domain.spec import TrainingSpec
from tests.app.factory import MODEL
from tests.app.test_monstrous_specs import RATES, WHOLE
from tests.hostile.fuzzing import fuzz

MANIFEST = DatasetManifest(
    images=tuple(
        ManifestImage(name=f"{n}.png", key=f"k{n}", sha256=f"{n:064x}", size=9, width=64 + 8 * n, height=64,
                      caption=None if n else "a toy, red", dhash=f"{n:016x}", sharpness=9.0)
        for n in range(14)
    )
)  # fmt: skip
INIT = InitAdapter(id="ad_1", key="adapters/ad_1/a", sha256="0" * 64)
WORDS = [
    *(
        "auto",
        "subject",
        "style",
        "quick",
        "lora",
        "dora",
        "locon",
        "attention",
        "all",
        "bf16",
        "fp16",
        "fp32",
        "adamw",
    ),
    *(
        "prodigy",
        "lion",
        "adafactor",
        "huber",
        "l2",
        "cosine",
        "constant",
        "on",
        "off",
        "{trigger}, {caption}",
        "https://example.com/hook",
    ),
]
NUMBERS = [0, 1, 2, 8, 32, 64, 72, 256, 1000, 100_000, 0.5, 0.001, 1e-6, 5.0]
PLAUSIBLE: list[Any] = [*NUMBERS, *WORDS, True, False, None, ["a {trigger}"], [0.9, 0.99], {"run": "7"}, {}, []]
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from([10**400, -(2**64)])
)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)


def part_of(annotation: Any) -> type[BaseModel] | None:
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def is_good(model: type[BaseModel], name: str, value: Any) -> bool:
    try:
        model.model_validate({name: value})
    except ValidationError:
        return False
    return True


def parts(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """A few of its fields, mostly with what fields have."""
    fields = {}
    for name, field in model.model_fields.items():
        below = part_of(field.annotation)
        good = [value for value in PLAUSIBLE if is_good(model, name, value)] or PLAUSIBLE
        usual = st.sampled_from(good) if below is None else parts(below)
        fields[name] = usual | usual | usual | st.sampled_from(PLAUSIBLE) | JSON
    few = st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True)
    return few.flatmap(lambda names: st.fixed_dictionaries({name: fields[name] for name in names}))


SPECS = parts(TrainingSpec)
STRAYS = st.builds(lambda spec, more: {**more, **spec}, SPECS, st.dictionaries(st.text(max_size=8), JSON, max_size=1))


def find(spec: Any, pointer: str) -> Any:
    for name in pointer.lstrip("/").split("/"):
        spec = None if spec is None else getattr(spec, name)
    return spec


def check_bounds(spec: TrainingSpec) -> None:
    for pointer, (low, high) in {**WHOLE, **RATES}.items():
        value = find(spec, pointer)
        assert value is None or (math.isfinite(value) and low <= value <= high), pointer
    assert TrainingSpec.model_validate(spec.model_dump(exclude_unset=True)) == spec
    json.dumps(spec.model_dump(mode="json"), allow_nan=False)


@fuzz
@given(data=STRAYS | SPECS | SPECS | JSON)
def test_any_json_as_a_spec(data: Any) -> None:
    try:
        spec = TrainingSpec.model_validate(data)
    except ValidationError:
        return
    check_bounds(spec)
    try:
        plan = resolve(spec, MANIFEST, MODEL, init=None if spec.init_adapter is None else InitAdapterSource(INIT))
    except InvalidSpec as refused:
        assert all(pointer.startswith("/") for pointer in refused.errors)  # noqa: PT017
        return
    assert TrainPlan.model_validate_json(plan.model_dump_json()) == plan


@fuzz
@given(text=st.text(max_size=60) | JSON.map(json.dumps) | STRAYS.map(json.dumps) | st.binary(max_size=60))
def test_any_text_as_a_spec(text: str | bytes) -> None:
    try:
        check_bounds(TrainingSpec.model_validate_json(text))
    except ValidationError:
        return
