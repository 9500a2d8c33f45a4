"""Headers of .safetensors files that are broken or made to deceive: each must be refused, and why."""

import functools
import json
import pickle
import struct
from collections.abc import Iterator

from core.domain.weights import MAX_HEADER_BYTES, MAX_TENSORS
from tests.fixtures.weights import pack_weights, weights_of

GOOD = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
DATA = bytes(4)
U64 = 2**64

Case = tuple[str, bytes]


def entry(shape: str = "[1]", place: str = "[0,4]", dtype: str = '"F32"') -> str:
    return f'{{"dtype":{dtype},"shape":{shape},"data_offsets":{place}}}'


def file_of(text: str, data: bytes = DATA) -> bytes:
    return pack_weights(text.encode("utf-8", "surrogatepass"), data)


def one(**parts: str) -> bytes:
    """A file with one tensor of four bytes, of which something is said otherwise."""
    return file_of(f'{{"a":{entry(**parts)}}}')


@functools.cache
def list_headers() -> dict[str, bytes]:
    makers = (_lengths, _json, _doubles, _metadata, _entries, _types, _shapes, _places, _layouts, _masses)
    cases = [case for make in makers for case in make()]
    assert len({name for name, _ in cases}) == len(cases)
    return dict(cases)


def _lengths() -> Iterator[Case]:
    text, whole = f'{{"a":{GOOD}}}'.encode(), file_of(f'{{"a":{GOOD}}}')
    yield "nothing", b""
    for said in (0, 1, len(text) - 1, len(text) + 1, len(whole), 2**31, 2**32, 2**63 - 1, 2**63, U64 - 1):
        yield f"a header of {said} bytes", struct.pack("<Q", said) + text + DATA
    yield "a header of more than 8 MiB", pack_weights(text.ljust(MAX_HEADER_BYTES + 1), DATA)
    for part in (9, 20, len(whole) - 5, len(whole) - 1):
        yield f"cut after {part} bytes", whole[:part]


def _json() -> Iterator[Case]:
    for name, text in {
        "a comma too many": f'{{"a":{GOOD},}}',
        "words behind it": f'{{"a":{GOOD}}}x',
        "two objects": f'{{"a":{GOOD}}}{{}}',
        "quotes of Python": f'{{"a":{GOOD}}}'.replace('"', "'"),
        "a comment": f'{{/* a */"a":{GOOD}}}',
        "a control character": f'{{"a\x01":{GOOD}}}',
        "half of a surrogate pair": f'{{"\\ud800":{GOOD}}}',
        "a surrogate in UTF-8": f'{{"\ud800":{GOOD}}}',
        "a number of 5,000 digits": f'{{"a":{entry(shape="[" + "9" * 5000 + "]")}}}',
        "nested without end": '{"a":' * 30_000 + "1" + "}" * 30_000,
        "lists without end": '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
    }.items():
        yield name, file_of(text)
    yield "no UTF-8", pack_weights(f'{{"\xff":{GOOD}}}'.encode("latin-1"), DATA)
    yield "UTF-16", pack_weights(f'{{"a":{GOOD}}}'.encode("utf-16-le"), DATA)
    yield "a NUL behind it", pack_weights(f'{{"a":{GOOD}}}\0'.encode(), DATA)


def _doubles() -> Iterator[Case]:
    other = entry(place="[4,8]")
    yield "a tensor twice", file_of(f'{{"a":{GOOD},"a":{GOOD}}}')
    yield "a tensor in two places", file_of(f'{{"a":{GOOD},"a":{other}}}', bytes(8))
    yield "a tensor twice, once escaped", file_of(f'{{"a":{GOOD},"\\u0061":{GOOD}}}')
    for field, value in (("dtype", '"F16"'), ("shape", "[2]"), ("data_offsets", "[0,2]")):
        yield f"{field} twice", file_of(f'{{"a":{GOOD[:-1]},"{field}":{value}}}}}')
    yield "metadata twice", file_of(f'{{"__metadata__":{{"a":"1"}},"__metadata__":{{"b":"2"}},"a":{GOOD}}}')
    yield "metadata with a key twice", file_of(f'{{"__metadata__":{{"a":"1","a":"2"}},"a":{GOOD}}}')


def _metadata() -> Iterator[Case]:
    for text in (
        "[]",
        '"x"',
        "null",
        "1",
        '{"a":1}',
        '{"a":null}',
        '{"a":{"b":"c"}}',
        '{"a":["b"]}',
        '{"a":"\\udfff"}',
    ):
        yield f"metadata {text}", file_of(f'{{"__metadata__":{text},"a":{GOOD}}}')


def _entries() -> Iterator[Case]:
    for text in ("1", "null", '"x"', "[]", "{}", "true"):
        yield f"a tensor that is {text}", file_of(f'{{"a":{text}}}')
    for field in ("dtype", "shape", "data_offsets"):
        without = {key: value for key, value in json.loads(GOOD).items() if key != field}
        yield f"a tensor without {field}", pack_weights({"a": without}, DATA)
    yield "a field more", file_of(f'{{"a":{GOOD[:-1]},"code":"import os"}}}}')


def _types() -> Iterator[Case]:
    for dtype in ('"F128"', '"f32"', '"O"', '""', '"float32"', "32", "null", '["F32"]', '{"a":1}'):
        yield f"type {dtype}", one(dtype=dtype)


def _shapes() -> Iterator[Case]:
    shapes = (
        '"1"', "1", "null", '["1"]', "[-1]", "[1.0]", "[true]", "[null]", "[[1]]", "[1e0]", "{}",
        "[1,1,1,1,1,1,1,1,1]", f"[{2**63}]", f"[{U64}]", f"[{U64 + 1}]", f"[0,{U64 - 1}]", f"[{2**32},{2**32}]",
        "[-1,-1]", f"[{2**31},{2**31},4]", "[0]", "[2]", "[]",
    )  # fmt: skip
    for shape in shapes:
        yield f"shape {shape}", file_of(f'{{"a":{entry(shape)}}}', DATA if shape != "[]" else bytes(5))


def _places() -> Iterator[Case]:
    places = (
        "[0]", "[0,4,8]", "[]", "null", '"0,4"', '["0","4"]', "[0.0,4.0]", "[false,4]", "[-4,0]", "[4,0]", "[0,3]",
        "[0,5]", f"[0,{U64 + 4}]", f"[{U64 - 4},{U64}]", f"[{U64 - 4},0]", "[4,8]", "[1,5]", f"[{2**62},{2**62 + 4}]",
    )  # fmt: skip
    for place in places:
        yield f"place {place}", one(place=place)
    yield "half a byte", one(shape="[1]", dtype='"F4"', place="[0,0]")


def _layouts() -> Iterator[Case]:
    two = f'{{"a":{GOOD},"b":{{}}}}'.replace("{}", "%s")
    yield "two tensors in one place", file_of(two % GOOD)
    yield "two tensors that overlap", file_of(two % entry(place="[2,6]"), bytes(6))
    yield "a hole between two", file_of(two % entry(place="[8,12]"), bytes(12))
    yield "a hole before the first", file_of(f'{{"a":{entry(place="[4,8]")}}}', bytes(8))
    yield "one within another", file_of(f'{{"a":{entry("[4]", "[0,16]")},"b":{entry(place="[4,8]")}}}', bytes(16))
    yield "a pickle behind the last", weights_of(b"x") + pickle.dumps(None)
    yield "a ZIP behind the last", weights_of(b"x") + b"PK\5\6" + bytes(18)
    yield "data without a tensor", pack_weights(b"{}", b"x")
    yield "metadata alone, and data", pack_weights(b'{"__metadata__":{}}', b"x")


def _masses() -> Iterator[Case]:
    none = entry("[0]", "[0,0]")
    yield "20,001 tensors", file_of("{" + ",".join(f'"{n}":{none}' for n in range(MAX_TENSORS + 1)) + "}", b"")
    same = entry("[1024]", "[0,4096]")
    yield (
        "10,000 tensors in one place",
        file_of("{" + ",".join(f'"{n}":{same}' for n in range(10_000)) + "}", bytes(4096)),
    )
    yield "400,000 braces", file_of('{"a":[' + ",".join(["{}"] * 400_000) + "]}", b"")
    yield "a million numbers", file_of(f'{{"a":{entry("[" + ",".join("1" * 1_000_000) + "]")}}}')
    yield "a million texts", file_of('{"a":[' + ",".join(['"ab"'] * 600_000) + "]}")
    yield "300,000 names", file_of("{" + ",".join(f'"{n}":1' for n in range(300_000)) + "}")
