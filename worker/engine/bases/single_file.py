"""Identifies a single .safetensors file from the names and shapes in its header. No tensor is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.domain import weights
from core.domain.errors import UnsupportedWeights, WeightsRejected
from core.domain.model import Family, PredictionType, name_families
from worker.engine.errors import BadInput
from worker.engine.families.recognition import read_config, refuse_other_unets
from worker.engine.families.registry import FAMILIES

CONFIGS = Path(__file__).parents[1] / "families" / "configs"
"""Folders in diffusers' layout without weights: each family's configuration at its true size."""

PICKLES = {".ckpt", ".bin", ".pt", ".pth", ".pkl"}

DENOISER = "model.diffusion_model."
VAE = "first_stage_model."
_INPUT = f"{DENOISER}input_blocks.0.0.weight"
_FLOATS = ("F32", "BF16", "F16")


@dataclass(frozen=True)
class Header:
    """``dtypes`` and ``shapes`` by tensor name; ``metadata`` is the author's."""

    name: str
    dtypes: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]

    def has(self, part: str) -> bool:
        return any(part in name for name in self.shapes)

    def begins(self, *prefixes: str) -> bool:
        return any(name.startswith(prefixes) for name in self.shapes)


@dataclass(frozen=True)
class Checkpoint:
    """``prediction_type`` is None if the file does not state it: then the operator must."""

    family: Family
    prediction_type: PredictionType | None
    zero_terminal_snr: bool


def read_header(path: Path) -> Header:
    """Raises BadInput for a file of another format, or one that was cut short."""
    refuse_name(path)
    with path.open("rb") as file:
        start = file.read(weights.HEAD_BYTES)
    try:
        header = weights.read_header(start, path.stat().st_size)
    except (UnsupportedWeights, WeightsRejected) as error:
        raise BadInput(f"{path.name}: {error.detail}") from error
    return Header(path.name, header.dtypes, header.shapes, header.metadata)


def refuse_name(path: Path) -> None:
    """Raises BadInput for other suffixes: libraries choose by them how to open a file, and treat unknown ones as a
    pickle."""
    if path.suffix.lower() in PICKLES:
        raise BadInput(
            f"{path.name} is a pickle, which can run code when it is opened, and is not read here. "
            "Get the model as .safetensors, or convert it on a machine that you can afford to lose."
        )
    if path.suffix != ".safetensors":
        raise BadInput(f"{path.name} does not end in .safetensors: if it is such a file, rename it.")


def identify(header: Header, configs: Path = CONFIGS) -> Checkpoint:
    """Raises BadInput, with a description, for everything but a complete base of a known family."""
    for kind, advice, matches in _UNSUPPORTED_KINDS:
        if matches(header):
            raise BadInput(f"{header.name} is {kind}. {advice}")
    for spec in FAMILIES.values():
        for relative in spec.single_file.relatives:
            if header.begins(relative.prefix):
                raise BadInput(f"{header.name} is {relative.kind}. {relative.advice}")
    if _INPUT not in header.shapes:
        names = ", ".join(sorted(header.shapes)[:3]) or "none"
        raise BadInput(f"{header.name} is of an unknown type (its first tensors: {names}). {_BASE}")
    refuse_other_unets(
        header.name, header.shapes[_INPUT][1], is_distilled=header.has(f"{DENOISER}time_embed.cond_proj")
    )
    family = _find_family(header)
    _check_widths(header, family, configs)
    return Checkpoint(family, _find_prediction_type(header, family), "ztsnr" in header.shapes)


_BASE = f"Give a complete {name_families('or')} checkpoint: U-Net, text encoders and VAE in one file."
_ADAPTER_MARKS = ("lora_down.", "lora_up.", ".lora_A.", ".lora_B.", ".lora.down.", "hada_w1", "lokr_w", ".oft_blocks")

_UNSUPPORTED_KINDS: tuple[tuple[str, str, Callable[[Header], bool]], ...] = (
    (
        "a LoRA or an adapter like it",
        "Give the base that it was trained for.",
        lambda header: any(map(header.has, _ADAPTER_MARKS)),
    ),
    ("an SD3 model", _BASE, lambda header: header.has("joint_blocks.0.")),
    ("a Flux model", _BASE, lambda header: header.has("double_blocks.0.")),
    ("a ControlNet", _BASE, lambda header: header.begins("control_model.", "controlnet_cond_embedding.")),
    ("an IP-Adapter", _BASE, lambda header: header.begins("ip_adapter.")),
    ("a textual inversion", _BASE, lambda header: header.begins("emb_params", "string_to_param")),
    (
        "a U-Net alone, from a folder in diffusers' layout",
        "Give that folder.",
        lambda header: header.begins("down_blocks."),
    ),
    (
        "a VAE",
        "Give the whole checkpoint.",
        lambda header: (
            not header.begins(DENOISER) and header.begins("encoder.conv_in.", "decoder.conv_in.", VAE, "vae.")
        ),
    ),
    (
        "a text encoder",
        "Give the whole checkpoint.",
        lambda header: header.begins("text_model.", "encoder.block.", "transformer.resblocks."),
    ),
)


def _find_family(header: Header) -> Family:
    """By the text encoders: each family has its own under its own name."""
    if not header.begins(VAE):
        raise BadInput(f"{header.name} has no VAE. {_BASE}")
    for spec in FAMILIES.values():
        if all(map(header.begins, spec.single_file.marks)):
            return spec.name
    raise BadInput(f"{header.name} is a U-Net without text encoders (or with unknown ones). {_BASE}")


def _check_widths(header: Header, family: Family, configs: Path) -> None:
    """Pruned or extended models keep the names, but not the widths."""
    config = read_config(configs / family, "unet/config.json")
    expected = {config["cross_attention_dim"]}
    found = {
        shape[1] for name, shape in header.shapes.items() if name.startswith(DENOISER) and "attn2.to_k.weight" in name
    }
    if header.shapes[_INPUT][0] != config["block_out_channels"][0] or found != expected:
        raise BadInput(f"{header.name} has the layers of {family} in other sizes (text of {found}, not {expected}).")


def _find_prediction_type(header: Header, family: Family) -> PredictionType | None:
    """Newer trainers mark it by a tensor, or in modelspec's metadata. Without a mark it is the published bases', if
    they have only one type."""
    if "v_pred" in header.shapes:
        return "v_prediction"
    said = header.metadata.get("modelspec.prediction_type", "")
    if said:
        return "v_prediction" if said.startswith("v") else "epsilon"
    architecture = header.metadata.get("modelspec.architecture", "")
    if architecture.startswith("stable-diffusion-v2"):
        return "v_prediction" if "768-v" in architecture else "epsilon"
    published = list(FAMILIES[family].single_file.published)
    return published[0] if len(published) == 1 else None


def find_dtype(header: Header, prefix: str) -> str:
    """The widest stored precision of the part's tensors, such as ``F16``. Raises BadInput for 8 bits and less."""
    kinds = {dtype for name, dtype in header.dtypes.items() if name.startswith(prefix) and dtype not in {"I64", "I32"}}
    if strange := sorted(kinds - set(_FLOATS)):
        raise BadInput(f"{header.name} is stored in {', '.join(strange)}: give it in 16 or 32 bits (F16, BF16, F32).")
    return next((dtype for dtype in _FLOATS if dtype in kinds), "F32")
