"""Nothing that the service reads is code: no part of it unpickles, evaluates, or lets a library do so."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cli.local.programs import ROOT
from tests.fixtures.bases import write_random_base
from tests.hostile.code_in_data import find_faults, list_sources
from tests.hostile.weights import CANARY, Hostile
from worker.engine.bases.inspection import inspect
from worker.engine.errors import BadInput
from worker.engine.families import load_base

PACKAGES = ("app", "atelier_client", "cli", "core", "worker", "migrations")
FOLDERS = ("app", "cli", "clients/python", "core", "worker", "migrations")
SOURCES = list_sources(ROOT, FOLDERS)
GRAPH = """
import json, pkgutil, sys, importlib
for package in sys.argv[1:]:
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(module.__path__, package + "."):
        if not found.name.endswith(("__main__", "env")) and ".versions." not in found.name:
            importlib.import_module(found.name)
print(json.dumps([module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)]))
"""

BAD = {
    "import pickle": "import pickle",
    "from pickle import loads": "import pickle.loads",
    "def f():\n    import dill as d": "import dill",
    "import joblib.memory": "import joblib.memory",
    "import torch\ntorch.load('x')": "torch.load",
    "import torch as t\nload = t.load": "torch.load",
    "from torch import load as read": "import torch.load",
    "import torch\ntorch.jit.load('x')": "torch.jit.load",
    "import numpy as np\nnp.load('x')": "numpy.load",
    "f('x', allow_pickle=False)": "allow_pickle=",
    "import yaml\nyaml.load(text, Loader=x)": "yaml.load",
    "import yaml\nclass A(Other): ...\nyaml.load(text, A)": "yaml.load",
    "from yaml import unsafe_load": "import yaml.unsafe_load",
    "eval('1')": "eval",
    "run = exec": "exec",
    "__import__('os')": "__import__",
    "import os\nos.system('id')": "os.system",
    "import subprocess\nsubprocess.run('id', shell=True)": "shell=",
    "archive.extractall()": "archive.extractall",
    "open_it().extractall()": ".extractall",
    "kind.from_pretrained('x')": "kind.from_pretrained without use_safetensors=True",
    "kind.from_pretrained('x', use_safetensors=None)": "kind.from_pretrained without use_safetensors=True",
    "pipeline.load_lora_weights('x')": "pipeline.load_lora_weights without use_safetensors=True",
    "kind.from_pretrained('x', use_safetensors=True, trust_remote_code=True)": "trust_remote_code=",
    "from PIL import Image\nImage.open('x')": "PIL.Image.open without formats=",
}
GOOD = (
    "import json\njson.loads('1')",
    "import yaml\nyaml.safe_load('1')",
    "import yaml\nclass A(yaml.SafeLoader): ...\nyaml.load('1', A)",
    "module.eval()",
    "import re\nre.compile('x')",
    "from safetensors.torch import load_file\nload_file('x')",
    "CLIPTokenizer.from_pretrained('x')",
    "kind.from_pretrained('x', use_safetensors=True)",
    "from PIL import Image\nImage.open('x', formats=['PNG'])",
)


@pytest.mark.parametrize("source", BAD)
def test_each_of_them_would_be_found(source: str) -> None:
    assert [fault.partition(": ")[2] for fault in find_faults(source)] == [BAD[source]]


@pytest.mark.parametrize("source", GOOD)
def test_what_is_harmless_is_let_be(source: str) -> None:
    assert find_faults(source) == []


def test_no_module_of_the_service_takes_data_for_code() -> None:
    assert len(SOURCES) > 200
    faults = {str(path.relative_to(ROOT)): found for path in SOURCES if (found := find_faults(path.read_text()))}
    assert faults == {}


def test_all_that_the_service_imports_of_its_own_was_looked_at() -> None:
    """By the true import graph: nothing lies elsewhere."""
    command = [sys.executable, "-c", GRAPH, *PACKAGES]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=make_environment())
    files = {Path(name).resolve() for name in json.loads(answer.stdout.splitlines()[-1])}
    own = {path for path in files if path.is_relative_to(ROOT) and "site-packages" not in path.parts and path.exists()}
    assert len(own) > 200 and own <= set(SOURCES)


def make_environment() -> dict[str, str]:
    return {"PATH": "/usr/bin", "DATABASE_URL": "postgresql+psycopg://nowhere", "REDIS_URL": "redis://nowhere"}


# --- bases -----------------------------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_random_base(tmp_path / "base")
    return tmp_path / "base"


def swap(base: Path, part: str, name: str) -> Path:
    """A part's weights for a pickle that runs."""
    (weights,) = (base / part).glob("*.safetensors")
    weights.unlink()
    (base / part / name).write_bytes(pickle.dumps(Hostile()))
    return weights


def load_whole(base: Path) -> None:
    loaded = load_base("sd1", base, torch.device("cpu"), torch.float32)
    loaded.open_text_encoders()
    list(loaded.encode_images(iter([torch.zeros(3, 64, 64)])))


PARTS = {
    "unet": "diffusion_pytorch_model.bin",
    "vae": "diffusion_pytorch_model.bin",
    "text_encoder": "pytorch_model.bin",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_bases_pickles_are_not_opened(base: Path, part: str) -> None:
    """Nor beside a .safetensors that is there for show."""
    weights = swap(base, part, PARTS[part])
    with pytest.raises(BadInput, match="is a pickle"):
        inspect(base, model_id="x")
    weights.with_name("for-show.safetensors").write_bytes(b"")
    with pytest.raises((BadInput, OSError)):
        load_whole(base)
    assert not Path(CANARY).exists()


@pytest.mark.parametrize("shard", [PARTS["unet"], "../x.safetensors", "/x.safetensors", None])
def test_an_index_of_shards_leads_to_no_pickle(base: Path, shard: str | None) -> None:
    weights = swap(base, "unet", PARTS["unet"])
    index = {"metadata": {}, "weight_map": {"conv_in.weight": shard}}
    weights.with_name("for-show.safetensors").write_bytes(b"")
    weights.with_name(f"{weights.name}.index.json").write_text(json.dumps(index))
    with pytest.raises(BadInput, match="names files other than"):
        inspect(base, model_id="x")
    assert not Path(CANARY).exists()
