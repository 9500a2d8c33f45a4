"""Files that are no weights, or say untrue things of themselves. Built here, never stored."""

import bz2
import gzip
import io
import json
import lzma
import marshal
import os
import pickle
import tarfile
import zipfile
import zlib
from typing import Any

import numpy as np

from tests.fixtures.weights import pack_weights, weights_of

CANARY = "atelier-pickle-canary"
"""A file of this name in the working directory means that something was run."""


class Hostile:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {CANARY}",)


def list_pickled() -> dict[str, bytes]:
    """Weights in every other format, under the name of a .safetensors."""
    state = {"lora_unet_down.weight": [0.5] * 40}
    honest = {f"pickle, protocol {number}": pickle.dumps(state, number) for number in range(6)}
    hostile = {f"pickle that runs, protocol {number}": pickle.dumps(Hostile(), number) for number in range(6)}
    return honest | hostile | _list_packed(pickle.dumps(Hostile())) | _list_foreign()


def _list_packed(pickled: bytes) -> dict[str, bytes]:
    array = io.BytesIO()
    np.save(array, np.array([Hostile(), None], dtype=object), allow_pickle=True)
    legacy = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    return {
        "torch.save": _zip({"archive/data.pkl": pickled, "archive/version": b"3\n", "archive/data/0": bytes(64)}),
        "torch.save, compressed": _zip({"archive/data.pkl": pickled}, zipfile.ZIP_DEFLATED),
        "torch.save of old": legacy + pickled,
        "torch.save of older": _tar({"sys_info": pickled, "pickle": pickled, "storages": b"", "tensors": b""}),
        "TorchScript": _zip({"m/data.pkl": pickled, "m/code/__torch__.py": b"import os", "m/constants.pkl": pickled}),
        "an empty ZIP": _zip({}),
        "a pickle in gzip": gzip.compress(pickled),
        "a pickle in bzip2": bz2.compress(pickled),
        "a pickle in xz": lzma.compress(pickled),
        "a pickle in zlib, as joblib writes": zlib.compress(pickled),
        "a pickle behind spaces": b" " * 8 + pickled,
        "a pickle behind another": pickle.dumps(None) + pickled,
        "an array of objects": array.getvalue(),
        "arrays of objects": _zip({"a.npy": array.getvalue()}),
        "marshalled code": marshal.dumps(compile("import os", "x", "exec")),
        "safetensors in a ZIP": _zip({"a.safetensors": weights_of(b"x")}),
        "safetensors in gzip": gzip.compress(weights_of(b"x" * 100)),
        "safetensors behind a byte": b"\0" + weights_of(b"x"),
        "safetensors without its first byte": weights_of(b"x")[1:],
    }


def _list_foreign() -> dict[str, bytes]:
    return {
        "GGUF": b"GGUF\x03\0\0\0" + bytes(200),
        "GGML": b"lmgg\x01\0\0\0" + bytes(200),
        "HDF5, as Keras writes": b"\x89HDF\r\n\x1a\n" + bytes(200),
        "ONNX": b"\x08\x07\x12\x07pytorch" + bytes(200),
        "TFLite": b"\x1c\0\0\0TFL3" + bytes(200),
        "msgpack, as Flax writes": b"\x81\xa6params\x81\xa1w" + bytes(200),
        "ELF": b"\x7fELF\x02\x01\x01\0" + bytes(200),
        "a script": b"#!/bin/sh\nrm -rf /\n" * 9,
        "Python": b"import os\nos.system('id')\n" * 9,
        "a page that asks to log in": b"<!doctype html><title>Sign in</title>" * 9,
        "the pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "JSON": json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode(),
        "a list for a header": pack_weights(b"[]"),
        "spaces before the header": pack_weights(b" {}"),
        "a byte order mark before the header": pack_weights(b"\xef\xbb\xbf{}"),
        "zeros": bytes(1000),
        "a few bytes": b"\x80\x04.",
        "eight bytes": bytes(8),
    }


NAMES = (
    "a.pt", "a.pth", "a.ckpt", "a.bin", "a.pkl", "a.pickle", "a.npz", "a.npy", "a.h5", "a.gguf", "a.onnx", "a.msgpack",
    "a.safetensors.pt", "a.safetensors.zip", "safetensors", "a.safetensors.", "a.safetensor", "a", "a.safetensors/b",
)  # fmt: skip
"""Names that say another format, whatever is in the file."""


def _zip(entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _tar(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
