"""Any file at all: read as the format's own library reads it, or refused. Nothing is seen in two ways."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from safetensors import deserialize
from safetensors.numpy import save

from core.domain.errors import UnsupportedWeights, WeightsRejected
from core.domain.weights import BITS_OF, HEAD_BYTES, MAX_DIMENSIONS, MAX_TENSORS, Header, read_header
from tests.fixtures.weights import pack_weights
from tests.hostile.fuzzing import fuzz

NUMBERS = st.integers(-2, 40) | st.sampled_from(
    [2**31, 2**32, 2**53, 2**63, 2**64 - 4, 2**64, True, 1.0, None, "1", [], {}]
)
NAMES = st.sampled_from(["a", "b", "lora_unet_x.alpha", "__metadata__", "", "\0", "\ud800", "é"]) | st.text(max_size=4)
DTYPES = st.sampled_from([*BITS_OF, "F32", "F32", "f32", "", None, 32])
TENSORS = st.fixed_dictionaries(
    {"dtype": DTYPES, "shape": st.lists(NUMBERS, max_size=3) | NUMBERS, "data_offsets": st.lists(NUMBERS, max_size=3)},
    optional={"more": NUMBERS},
)
ARRAYS = st.dictionaries(
    NAMES.filter(lambda name: name != "__metadata__" and name.isprintable()),
    st.builds(np.zeros, st.lists(st.integers(0, 3), max_size=4), st.sampled_from(["f4", "f2", "i8", "u1", "?"])),
    min_size=1,  # of none the library writes no JSON
    max_size=5,
)
METADATA = st.none() | st.dictionaries(st.text(max_size=4), st.text(max_size=9), max_size=3)


@st.composite
def honest(draw: st.DrawFn) -> bytes:
    return save(draw(ARRAYS), draw(METADATA))


@st.composite
def near(draw: st.DrawFn) -> bytes:
    """An honest header with something of it said otherwise."""
    content = draw(honest())
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for name in draw(st.lists(st.sampled_from(sorted(header)), max_size=2)) if header else ():
        field = draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        if isinstance(header.get(name), dict):
            header[name][field] = draw(TENSORS)[field]
    return pack_weights(header, content[8 + length :])


@st.composite
def far(draw: st.DrawFn) -> bytes:
    header = draw(st.dictionaries(NAMES, TENSORS | st.dictionaries(st.text(max_size=2), NUMBERS) | NUMBERS, max_size=4))
    return pack_weights(header, bytes(draw(st.integers(0, 60))))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    content = bytearray(draw(honest()))
    for at in draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[at] = draw(st.integers(0, 255) | st.sampled_from(list(b'{}[]",:0123456789 ')))
    return bytes(content[: draw(st.just(len(content)) | st.integers(0, len(content)))])


def read(content: bytes) -> Header | None:
    try:
        return read_header(content[:HEAD_BYTES], len(content))
    except (UnsupportedWeights, WeightsRejected) as refused:
        assert refused.detail.endswith(".") and len(refused.detail) < 400  # noqa: PT017
        return None


def check_as_the_library(header: Header, content: bytes) -> None:
    seen = dict(deserialize(content))
    assert {name: tuple(tensor["shape"]) for name, tensor in seen.items()} == dict(header.shapes)
    assert {name: tensor["dtype"] for name, tensor in seen.items()} == dict(header.dtypes)
    assert len(header.shapes) <= MAX_TENSORS and all(len(shape) <= MAX_DIMENSIONS for shape in header.shapes.values())
    assert all(isinstance(value, str) for value in header.metadata.values())


@fuzz
@given(content=near() | far() | damaged() | st.binary(max_size=200))
def test_any_header(content: bytes) -> None:
    header = read(content)
    if header is not None:
        check_as_the_library(header, content)


@fuzz
@given(content=honest())
def test_what_the_library_writes_is_read(content: bytes) -> None:
    header = read(content)
    assert header is not None
    check_as_the_library(header, content)
