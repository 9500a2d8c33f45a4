"""diffusers' ``train_text_to_image_lora.py`` on the same images, for as many steps."""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench.quality.cases import Case
from bench.quality.measure import TINY, Trained
from core.domain.model import ModelInfo


@dataclass(frozen=True)
class Peer:
    """``python`` has the script's own requirements; neither is part of this repository."""

    script: Path
    python: Path
    card: ModelInfo
    learning_rate: float

    def train(self, case: Case, num_steps: int, folder: Path) -> Trained:
        """The batch and the rank from the base's card; the rate falls by a cosine."""
        pictures = folder / "peer-pictures"
        pictures.mkdir(parents=True)
        with (pictures / "metadata.jsonl").open("w") as lines:
            for index, (picture, text) in enumerate(case.pictures):
                picture.save(pictures / f"{index:02d}.png")
                lines.write(json.dumps({"file_name": f"{index:02d}.png", "text": text}) + "\n")
        started = time.monotonic()
        subprocess.run([str(self.python), str(self.script), *self._arguments(pictures, folder, num_steps)], check=True)
        adapter = folder / "peer" / "pytorch_lora_weights.safetensors"
        return Trained(adapter, num_steps, time.monotonic() - started)

    def _arguments(self, pictures: Path, folder: Path, num_steps: int) -> list[str]:
        values = {
            "pretrained_model_name_or_path": TINY,
            "train_data_dir": pictures,
            "output_dir": folder / "peer",
            "caption_column": "text",
            "resolution": self.card.resolution,
            "train_batch_size": self.card.defaults.batch_size,
            "max_train_steps": num_steps,
            "rank": self.card.defaults.rank,
            "learning_rate": self.learning_rate,
            "lr_scheduler": "cosine",
            "lr_warmup_steps": 0,
            "checkpointing_steps": 10 * num_steps,
            "seed": 0,
            "mixed_precision": "no",
            "dataloader_num_workers": 0,
        }
        return [part for name, value in values.items() for part in (f"--{name}", str(value))]
