"""Looks at a base's folder and writes its card, ``atelier.json``: family, sizes, hash, the cost of adapters.

    python -m worker.training.inspection FOLDER --id ID [--defaults JSON] [--prompts ...]

Nothing of a name is believed: the family is found from the configs, on the meta device.
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from core.domain.model import FAMILY_DEFAULTS, Calibration, Defaults, Family, ModelInfo
from core.model_folders import CARD
from worker.training.errors import BadInput
from worker.training.families.sd1 import list_unet_targets

SD1_TEXT_ENCODER = "CLIPTextModel"


def inspect(
    folder: Path,
    *,
    model_id: str,
    defaults: Defaults | None = None,
    calibration: Calibration | None = None,
    description: str = "",
    example_prompts: tuple[str, ...] = (),
) -> ModelInfo:
    """Raises BadInput where the folder is no base of a known family."""
    family = find_family(folder)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(_config(folder, "unet"))
        vae = AutoencoderKL.from_config(_config(folder, "vae"))
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    return ModelInfo(
        id=model_id,
        family=family,
        resolution=unet.config.sample_size * factor,
        resolution_step=64 if factor >= 8 else 2 * factor,
        sha256=hash_folder(folder),
        num_parameters=sum(param.numel() for param in unet.parameters()),
        adapter_dims=measure_adapters(unet),
        defaults=defaults or FAMILY_DEFAULTS[family],
        calibration=calibration,
        description=description,
        example_prompts=example_prompts,
    )


def find_family(folder: Path) -> Family:
    index = _read(folder / "model_index.json")
    classes = {part: value[1] for part, value in index.items() if isinstance(value, list) and len(value) == 2}
    if classes.get("unet") != "UNet2DConditionModel" or classes.get("text_encoder") != SD1_TEXT_ENCODER:
        raise BadInput(f"{folder.name} is a {index.get('_class_name')}, not a Stable Diffusion 1.x")
    if "text_encoder_2" in classes:
        raise BadInput(f"{folder.name} has two text encoders: it is of the SDXL family, which is not taken yet")
    return "sd1"


def measure_adapters(unet: torch.nn.Module) -> dict[str, int]:
    """Per kind of adapter, parameters per rank: a Linear costs inputs + outputs, a convolution its kernel too."""
    layers = dict(unet.named_modules())
    return {
        f"{kind}/{targets}": sum(_cost(layers[name]) for name in list_unet_targets(unet, kind, targets))
        for kind in ("lora", "locon")
        for targets in ("attention", "attention_ff", "all")
    }


def _cost(layer: torch.nn.Module) -> int:
    if isinstance(layer, torch.nn.Linear):
        return layer.in_features + layer.out_features
    assert isinstance(layer, torch.nn.Conv2d)
    return layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1] + layer.out_channels


def hash_folder(folder: Path) -> str:
    """SHA-256 over every file but the card, by relative path."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.name not in {CARD, "README.md"} and path.suffix != ".png":
            digest.update(str(path.relative_to(folder)).encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _config(folder: Path, part: str) -> dict[str, object]:
    return _read(folder / part / "config.json")


def _read(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path.parent.name}/{path.name} cannot be read: no folder in diffusers' layout") from error
    return dict(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--id", required=True)
    parser.add_argument("--description", default="")
    parser.add_argument("--defaults", type=Defaults.model_validate_json)
    parser.add_argument("--calibration", type=Calibration.model_validate_json)
    parser.add_argument("--prompts", nargs="*", default=[])
    args = parser.parse_args()
    info = inspect(
        args.folder,
        model_id=args.id,
        defaults=args.defaults,
        calibration=args.calibration,
        description=args.description,
        example_prompts=tuple(args.prompts),
    )
    (args.folder / CARD).write_text(info.model_dump_json(indent=2) + "\n")


if __name__ == "__main__":
    main()
