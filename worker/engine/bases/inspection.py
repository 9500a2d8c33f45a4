"""Examines a base's folder and writes its card, ``atelier.json``: family, sizes, hash, the cost of adapters; and, by
``worker.engine.memory``, what its jobs take of a device's memory.

    python -m worker.engine.bases.inspection FOLDER --id ID [--defaults JSON] [--prompts ...]

Networks are built on the meta device. The denoiser's weights are read only for the hash.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from core.domain.model import FAMILY_DEFAULTS, Calibration, Defaults, ModelInfo
from core.model_folders import CARD
from worker.engine.bases.completeness import check_parts
from worker.engine.errors import BadInput
from worker.engine.families.protocol import Network
from worker.engine.families.recognition import find_prediction_type, read_config
from worker.engine.families.registry import FAMILIES, find_family
from worker.engine.hashes import hash_folder
from worker.engine.memory.tracing import add_memory

TARGETS = ("attention", "attention_ff", "all")


def inspect(
    folder: Path,
    *,
    model_id: str,
    defaults: Defaults | None = None,
    calibration: Calibration | None = None,
    description: str = "",
    example_prompts: tuple[str, ...] = (),
    file_sha256: str | None = None,
) -> ModelInfo:
    """Raises BadInput if the folder is not a whole base of a known family."""
    family = find_family(folder)
    refuse_pickle(folder)
    (denoiser, *text_encoders), factor = FAMILIES[family].build(folder), _latent_factor(folder)
    check_parts(folder, FAMILIES[family], denoiser)
    return ModelInfo(
        id=model_id,
        family=family,
        prediction_type=find_prediction_type(folder),
        resolution=denoiser.module.config.sample_size * factor,
        resolution_step=64 if factor >= 8 else 2 * factor,
        sha256=hash_folder(folder),
        num_parameters=sum(param.numel() for param in denoiser.module.parameters()),
        adapter_dims=measure_adapters(denoiser) | measure_text_adapters(text_encoders),
        defaults=defaults or FAMILY_DEFAULTS[family],
        calibration=calibration,
        description=description,
        example_prompts=example_prompts,
        file_sha256=file_sha256,
    )


def refuse_pickle(folder: Path) -> None:
    """Raises BadInput if a part's weights exist only in a format that can carry code, or an index names such files."""
    for path in sorted(folder.glob("*/*")):
        if path.suffix in {".bin", ".ckpt", ".pt", ".pth"} and not any(path.parent.glob("*.safetensors")):
            raise BadInput(
                f"{folder.name}/{path.parent.name}/{path.name} is a pickle, which can run code when it is opened. "
                "Convert it to .safetensors, or get the base in that format."
            )
    for path in sorted(folder.glob("*/*.safetensors.index.json")):
        name = str(path.relative_to(folder))
        shards = read_config(folder, name).get("weight_map")
        if not isinstance(shards, dict) or not all(map(_is_shard, shards.values())):
            raise BadInput(f"{folder.name}/{name} names files other than .safetensors: download the base again.")


def _is_shard(name: object) -> bool:
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name


def measure_adapters(denoiser: Network) -> dict[str, int]:
    """For each type of adapter, parameters per rank: a Linear costs inputs + outputs, a convolution its kernel too."""
    return {f"{kind}/{targets}": _measure(denoiser, kind, targets) for kind in ("lora", "locon") for targets in TARGETS}


def measure_text_adapters(encoders: Sequence[Network]) -> dict[str, int]:
    """The same for all the text encoders together, under ``text_encoder/<targets>``."""
    return {
        f"text_encoder/{targets}": sum(_measure(encoder, "lora", targets) for encoder in encoders)
        for targets in TARGETS
    }


def _measure(network: Network, kind: str, targets: str) -> int:
    layers = dict(network.module.named_modules())
    return sum(_cost(layers[name]) for name in network.list_targets(kind, targets))


def _cost(layer: torch.nn.Module) -> int:
    if isinstance(layer, torch.nn.Linear):
        return layer.in_features + layer.out_features
    assert isinstance(layer, torch.nn.Conv2d)
    return layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1] + layer.out_channels


def _latent_factor(folder: Path) -> int:
    config = AutoencoderKL.load_config(folder, subfolder="vae")
    return int(2 ** (len(config["block_out_channels"]) - 1))


def write_card(folder: Path, info: ModelInfo) -> None:
    """Never into an existing file, which may be linked elsewhere or read meanwhile."""
    partial = folder / f".{CARD}.part"
    partial.write_text(info.model_dump_json(indent=2) + "\n")
    partial.replace(folder / CARD)


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
    write_card(args.folder, add_memory(info, args.folder))


if __name__ == "__main__":
    main()
