"""Other trainers' own scripts as processes, from checkouts with a virtual environment in ``.venv`` of each.

A script is run twice, with few steps and with all: the difference is what steps take, whatever it does beside them.
"""

import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.speed.sizes import TRIGGER, Place, ProcessTimes, Sizes

ROOT = Path(__file__).resolve().parents[2]
FEW_STEPS = 2
LOG_CHARS = 600


class NotRun(Exception):
    """Why a peer has no figures."""


@dataclass(frozen=True)
class Peer(ABC):
    """A script in a checkout. ``python``: of the environment that it is installed in."""

    checkout: Path
    script: str

    @property
    def python(self) -> Path:
        return self.checkout / ".venv" / "bin" / "python"

    @abstractmethod
    def arguments(self, place: Place, sizes: Sizes, steps: int, out: Path) -> Mapping[str, object]:
        """Of the script; True is a flag."""

    def measure(self, place: Place, sizes: Sizes, number: int) -> ProcessTimes:
        """Raises NotRun."""
        for needed in (self.python, self.checkout / self.script):
            if not needed.exists():
                raise NotRun(f"{needed} is not there")
        if sizes.steps <= FEW_STEPS:
            raise NotRun(f"more than {FEW_STEPS} steps are needed to tell steps from the rest")
        few, all_of_them = (
            self._run(place, sizes, steps, place.scratch / f"{type(self).__name__}-{number}-{steps}")
            for steps in (FEW_STEPS, sizes.steps)
        )
        a_step = (all_of_them.seconds - few.seconds) / (sizes.steps - FEW_STEPS)
        return ProcessTimes(all_of_them.seconds, max(a_step, 0.0), all_of_them.peak_bytes)

    def _run(self, place: Place, sizes: Sizes, steps: int, out: Path) -> ProcessTimes:
        out.mkdir(parents=True)
        memory = out / "memory.txt"
        command = [sys.executable, "-m", "bench.speed.process", str(memory), str(self.checkout)]
        command += [str(self.python), str(self.checkout / self.script)]
        for name, value in self.arguments(place, sizes, steps, out).items():
            command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        env = {**os.environ, "OMP_NUM_THREADS": str(sizes.threads), "HF_HUB_OFFLINE": "1"}
        log = out / "log.txt"
        started = time.perf_counter()
        with log.open("wb") as sink:
            made = subprocess.run(command, cwd=ROOT, env=env, stdout=sink, stderr=sink)
        seconds = time.perf_counter() - started
        if made.returncode != 0:
            raise NotRun(f"exit code {made.returncode}: {log.read_text(errors='replace').strip()[-LOG_CHARS:]}")
        if not list(out.rglob("*.safetensors")):
            raise NotRun("it left no adapter")
        return ProcessTimes(seconds, 0.0, int(memory.read_text()))


class Diffusers(Peer):
    """``train_text_to_image_lora.py``, whose ``check_min_version`` must agree with what is installed."""

    def arguments(self, place: Place, sizes: Sizes, steps: int, out: Path) -> Mapping[str, object]:
        return {
            "pretrained_model_name_or_path": place.base, "train_data_dir": place.pictures, "caption_column": "text",
            "output_dir": out, "resolution": sizes.resolution, "train_batch_size": 1, "max_train_steps": steps,
            "rank": sizes.rank, "learning_rate": 1e-4, "lr_scheduler": "constant", "lr_warmup_steps": 0, "seed": 0,
            "checkpointing_steps": 10 * sizes.steps, "dataloader_num_workers": 0,
            "mixed_precision": "no" if sizes.precision == "fp32" else sizes.precision,
        }  # fmt: skip


class SdScripts(Peer):
    """``train_network.py --cache_latents``. It takes images from a folder named by repeats, and its tokenizer by the
    name of the published one."""

    def arguments(self, place: Place, sizes: Sizes, steps: int, out: Path) -> Mapping[str, object]:
        data, tokenizers = out / "data" / f"1_{TRIGGER}", out / "tokenizers"
        data.parent.mkdir()
        data.symlink_to(place.pictures.resolve())
        tokenizers.mkdir()
        (tokenizers / "openai_clip-vit-large-patch14").symlink_to((place.base / "tokenizer").resolve())
        return {
            "pretrained_model_name_or_path": place.base, "train_data_dir": data.parent, "caption_extension": ".txt",
            "output_dir": out, "output_name": "adapter", "save_model_as": "safetensors",
            "resolution": sizes.resolution, "train_batch_size": 1, "max_train_steps": steps, "seed": 0,
            "network_module": "networks.lora", "network_dim": sizes.rank, "network_alpha": sizes.rank,
            "network_train_unet_only": True, "learning_rate": 1e-4, "lr_scheduler": "constant",
            "mixed_precision": "no" if sizes.precision == "fp32" else sizes.precision, "cache_latents": True,
            "max_data_loader_n_workers": 0, "tokenizer_cache_dir": tokenizers, "sdpa": True,
        }  # fmt: skip


def open_diffusers(checkout: Path) -> Peer:
    return Diffusers(checkout.resolve(), "examples/text_to_image/train_text_to_image_lora.py")


def open_sd_scripts(checkout: Path) -> Peer:
    return SdScripts(checkout.resolve(), "train_network.py")
