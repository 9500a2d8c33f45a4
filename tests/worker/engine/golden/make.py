"""Makes the golden lists: runs the real name resolution of sd-scripts, A1111 and ComfyUI on true shapes.

    python make.py --sd-scripts DIR --a1111 DIR --comfyui DIR --ldm DIR --sgm DIR --out names.json.gz

Each DIR is a checkout (README.md names the commits); nothing of them is kept here. Everything lies on the meta
device, so no weight is ever made. One tool a process, since they share module names; stand-ins are put only
where a tool imports what its naming does not use (its web pages, its options, its caches).
"""

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from originals import (
    META,
    OPENCLIP,
    UNETS,
    Shapes,
    diffusers_unet,
    layers_of,
    open_clip_text,
    open_unet,
    stand_in,
    text_encoders,
)

RANK = 4
File = dict[str, torch.Tensor]


# --- the files that are offered to each tool -------------------------------------------------------------------


def offer(family: str, sgm: Shapes) -> dict[str, Shapes]:
    """Style of naming -> base name -> shape of the layer it means; each style is one file."""
    unet, texts = diffusers_unet(family), [layers_of(encoder) for encoder in text_encoders(family)]
    plain = {path: shape for text in texts for path, shape in text.items()}
    flat = {f"{prefix}_{name(path)}": shape for prefix in ("lora_te", "lora_te1") for path, shape in texts[0].items()}
    styles = {
        "unet_diffusers": {f"lora_unet_{name(path)}": shape for path, shape in unet.items()},
        "unet_sgm": {f"lora_unet_{name(path)}": shape for path, shape in sgm.items()},
        "unet_peft": {f"unet.{path}": shape for path, shape in unet.items()},
        "unet_processor": {f"unet.{processor(path)}": shape for path, shape in unet.items()},
        "te": {key: shape for key, shape in flat.items() if key.startswith("lora_te_")},
        "te1": {key: shape for key, shape in flat.items() if key.startswith("lora_te1_")},
        "te2": {f"lora_te2_{name(path)}": shape for path, shape in texts[-1].items()},
        "te_unprefixed": {f"lora_te_{name(path.removeprefix('text_model.'))}": s for path, s in plain.items()},
        "te_peft": {f"text_encoder.{path}": shape for path, shape in texts[0].items()},
        "te2_peft": {f"text_encoder_2.{path}": shape for path, shape in texts[-1].items()},
    }
    return styles


def name(path: str) -> str:
    return path.replace(".", "_")


def processor(path: str) -> str:
    """The spelling of diffusers before PEFT."""
    return (
        path.replace(".to_", ".processor.to_").removesuffix(".0")
        if ".to_out." in path
        else path.replace(".to_", ".processor.to_")
    )


def make_file(style: str, layers: Shapes) -> File:
    halves = ("lora_A", "lora_B") if style.endswith(("peft", "processor")) else ("lora_down", "lora_up")
    tensors: File = {}
    for base, (outputs, inputs, *kernel) in layers.items():
        tensors[f"{base}.{halves[0]}.weight"] = torch.empty(RANK, inputs, *kernel, device=META)
        tensors[f"{base}.{halves[1]}.weight"] = torch.empty(outputs, RANK, *[1] * len(kernel), device=META)
        if halves[0] == "lora_down":
            tensors[f"{base}.alpha"] = torch.tensor(float(RANK))
    return tensors


# --- which of diffusers' layers a tool's own layer is, by diffusers' reader of original checkpoints -------------


def match_layers(args: argparse.Namespace, family: str) -> dict[str, str]:
    """The original's layer -> diffusers' layer. Every tensor carries a number, which diffusers' converter moves."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    unet = open_unet(args, family)
    prefix = "model.diffusion_model."
    paths = list(layers_of(unet))
    tagged = {f"{prefix}{key}": torch.tensor([-1.0]) for key in unet.state_dict()}
    tagged |= {f"{prefix}{path}.weight": torch.tensor([float(i)]) for i, path in enumerate(paths)}
    config = dict(UNETS[family], class_embed_type=None, num_class_embeds=None)
    config.setdefault("addition_embed_type", None)
    moved = convert_ldm_unet_checkpoint(tagged, config)
    unets = {paths[int(tag)]: key.removesuffix(".weight") for key, tag in moved.items() if int(tag) >= 0}
    return {f"unet/{own}": f"unet/{path}" for own, path in unets.items()} | match_text(family)


def match_text(family: str) -> dict[str, str]:
    """OpenCLIP's blocks: its in_proj is cut in three, so a third of its rows carries a number of its own."""
    if family not in OPENCLIP:
        return {}
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint

    component = "text_encoder" if family == "sd2" else "text_encoder_2"
    encoder, original = text_encoders(family)[-1], open_clip_text(family)
    width = encoder.config.hidden_size
    prefix = "cond_stage_model.model." if family == "sd2" else "conditioner.embedders.1.model."
    own: list[str] = []
    tagged = {}
    for key, weight in original.state_dict().items():
        tagged[prefix + key] = torch.full((weight.shape[0] if weight.ndim else 1, 1), -1.0)
        if key.endswith("in_proj_weight"):
            thirds = [f"{key.removesuffix('.in_proj_weight')}#{third}" for third in "qkv"]
            tagged[prefix + key] = torch.arange(len(own), len(own) + 3.0).repeat_interleave(width)[:, None]
            own += thirds
        elif key.endswith(".weight") and "resblocks" in key and ".ln_" not in key:
            tagged[prefix + key] = torch.full((weight.shape[0], 1), float(len(own)))
            own.append(key.removesuffix(".weight"))
    moved = convert_open_clip_checkpoint(encoder, tagged, prefix=prefix)
    pairs = {own[int(tag.flatten()[0])]: key for key, tag in moved.items() if tag.flatten()[0] >= 0}
    return {f"{component}/{key}": f"{component}/{path.removesuffix('.weight')}" for key, path in pairs.items()}


# --- sd-scripts ------------------------------------------------------------------------------------------------


def run_sd_scripts(args: argparse.Namespace, family: str, files: dict[str, File]) -> dict[str, dict[str, str]]:
    stand_in("cv2", "torchvision", "torchvision.transforms")
    sys.path.insert(0, str(args.sd_scripts))
    from library.model_util import create_unet_diffusers_config
    from library.original_unet import UNet2DConditionModel
    from library.sdxl_original_unet import SdxlUNet2DConditionModel
    from networks.lora import create_network_from_weights

    def build() -> torch.nn.Module:
        if family == "sdxl":
            return SdxlUNet2DConditionModel()
        # For SD 2.x: as it opens a folder of diffusers. From a single file it builds 1x1 convolutions for proj_in/out.
        return UNet2DConditionModel(**create_unet_diffusers_config(family == "sd2", use_linear_projection_in_v2=True))

    found = {}
    for style, file in files.items():
        with META:
            unet = build()
        encoders = text_encoders(family)
        named = {"unet": unet} | dict(zip(("text_encoder", "text_encoder_2"), encoders, strict=False))
        paths = {id(layer): f"{part}/{path}" for part, model in named.items() for path, layer in model.named_modules()}
        with META:
            one = encoders if len(encoders) > 1 else encoders[0]
            network, read = create_network_from_weights(1.0, None, None, one, unet, dict(file))
        landed = {
            lora.lora_name: paths[id(lora.org_module)] for lora in network.text_encoder_loras + network.unet_loras
        }
        network.apply_to(encoders, unet)
        dropped = {key.split(".")[0] for key in network.load_state_dict(read, False).unexpected_keys}
        # It renames SDXL's keys in place and in order, so each given key is known by the tensor it carries.
        given = {id(tensor): key for key, tensor in file.items() if "down" in key}
        renamed = {
            key.split(".")[0]: given[id(tensor)].split(".")[0]
            for key, tensor in read.items()
            if "down" in key and id(tensor) in given
        }
        found[style] = {renamed[base]: layer for base, layer in landed.items() if base not in dropped}
    return found


# --- A1111 -----------------------------------------------------------------------------------------------------


def run_a1111(args: argparse.Namespace, family: str, files: dict[str, File]) -> dict[str, dict[str, str]]:
    model = open_a1111_model(args, family)
    stand_in("gradio", "modules", "modules.shared", "modules.devices", "modules.sd_models", "modules.errors")
    stand_in("modules.scripts", "modules.sd_hijack", "modules.cache", "modules.hashes", "modules.patches")
    stand_in("modules.textual_inversion", "modules.textual_inversion.textual_inversion")
    stand_in("modules.models", "modules.models.sd3", "lora_logger")
    for package in ("modules.models", "modules.models.sd3"):
        sys.modules[package].__path__ = [str(args.a1111 / package.replace(".", "/"))]
    sys.path.insert(0, str(args.a1111 / "extensions-builtin/Lora"))
    from modules import devices, sd_models, shared

    sys.modules["modules"].models = sys.modules["modules.models"]
    sys.modules["modules.models"].sd3 = sys.modules["modules.models.sd3"]
    sys.modules["modules.models.sd3"].mmdit = import_module("modules.models.sd3.mmdit")
    shared.sd_model, devices.cpu, devices.dtype = model, META, torch.float32
    import networks

    networks.assign_network_names_to_compvis_modules(model)
    networks.extra_network_lora = SimpleNamespace(errors={})
    found = {}
    for style, file in files.items():
        sd_models.read_state_dict = lambda _, file=file: file
        with META:
            net = networks.load_network(style, SimpleNamespace(filename="/dev/null"))
        found[style] = apply_a1111(networks, model, net)
    return found


def open_a1111_model(args: argparse.Namespace, family: str) -> Any:
    """The parts of its model whose names it walks: sd_model.model and the text encoders' wrappers."""
    model = torch.nn.Module()
    model.diffusion_model = open_unet(args, family)
    opened: list[torch.nn.Module] = []
    for kind in {"sd1": ["clip"], "sd2": ["open"], "sdxl": ["clip", "open"]}[family]:
        wrapped = torch.nn.Module()
        if kind == "clip":
            wrapped.transformer = text_encoders(family)[0]
        else:
            wrapped.model = open_clip_text(family)
        opened.append(SimpleNamespace(wrapped=wrapped))
    return SimpleNamespace(
        is_sdxl=family == "sdxl",
        model=model,
        cond_stage_model=opened[0],
        conditioner=SimpleNamespace(embedders=opened),
    )


def apply_a1111(networks: Any, model: Any, net: Any) -> dict[str, str]:
    """Base name -> layer, for those whose update is really computed and fits."""
    net.te_multiplier = net.unet_multiplier = 1.0
    networks.loaded_networks[:] = [net]
    parts = {"unet": model.model.diffusion_model}
    for index, embedder in enumerate(model.conditioner.embedders):
        inner = getattr(embedder.wrapped, "transformer", None) or embedder.wrapped.model
        parts["text_encoder" if index == 0 else "text_encoder_2"] = inner
    paths = {id(layer): f"{part}/{path}" for part, inner in parts.items() for path, layer in inner.named_modules()}
    bad = set()
    for part in parts.values():
        for layer in part.modules():
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d | torch.nn.MultiheadAttention):
                networks.extra_network_lora.errors.clear()
                layer.network_current_names = ()
                layer.network_weights_backup = layer.network_bias_backup = None
                with torch.no_grad():
                    networks.network_apply_weights(layer)
                bad |= {layer.network_layer_name} if networks.extra_network_lora.errors else set()
    landed = {}
    for key, module in net.modules.items():
        third = key[-6:-5] if key.endswith(("_q_proj", "_k_proj", "_v_proj")) and "resblocks" in key else ""
        if module.sd_module.network_layer_name not in bad:
            landed[module.network_key.partition(".")[0]] = paths[id(module.sd_module)] + (f"#{third}" if third else "")
    return landed


# --- ComfyUI ---------------------------------------------------------------------------------------------------


def run_comfyui(args: argparse.Namespace, family: str, files: dict[str, File]) -> dict[str, dict[str, str]]:
    unet = open_unet(args, family)
    sys.path.insert(0, str(args.comfyui))
    stand_in("torchaudio", "torchvision", "comfy_api", "comfy_api.torch_helpers")
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    import comfy.lora
    import comfy.lora_convert
    import comfy.model_detection

    prefix = "model.diffusion_model."
    state = {f"{prefix}{key}": weight for key, weight in unet.state_dict().items()}
    config = comfy.model_detection.model_config_from_unet(state, prefix)
    if type(config).__name__ != {"sd1": "SD15", "sd2": "SD20", "sdxl": "SDXL"}[family]:
        raise RuntimeError(f"ComfyUI took the {family} for {type(config).__name__}")
    if family == "sd2":
        config.model_type = lambda *_: comfy.model_base.ModelType.V_PREDICTION  # it would look at weights
    model = config.get_model(state, prefix, device=META)
    clip = config.clip_target({}).clip(device=META, dtype=torch.float32)
    names = comfy.lora.model_lora_keys_clip(clip, {}) | comfy.lora.model_lora_keys_unet(model, {})
    weights = model.state_dict() | clip.state_dict()
    return {style: apply_comfyui(file, names, weights) for style, file in files.items()}


def apply_comfyui(file: File, names: dict[str, str], weights: File) -> dict[str, str]:
    import logging

    import comfy.lora
    import comfy.lora_convert

    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(file)), names)
    for key, adapter in patches.items():
        adapter.calculate_weight(weights[key], key, 1.0, 1.0, None, lambda diff: diff)
    logging.getLogger().removeHandler(handler)
    lost = {line.removeprefix("lora key not loaded: ") for line in messages}
    bad = {line.split()[2] for line in messages if line.startswith("ERROR")}
    bases = {key.rsplit(".", 1 if key.endswith(".alpha") else 2)[0] for key in file if key not in lost}
    return {base: comfy_layer(names[base]) for base in bases if names[base] not in bad}


def comfy_layer(key: str) -> str:
    path = key.removesuffix(".weight")
    for own, part in (
        ("diffusion_model.", "unet/"),
        ("clip_l.transformer.", "text_encoder/"),
        ("clip_h.transformer.", "text_encoder/"),
        ("clip_g.transformer.", "text_encoder_2/"),
    ):
        if path.startswith(own):
            return part + path.removeprefix(own)
    raise ValueError(key)


RUNS = {"sd-scripts": run_sd_scripts, "a1111": run_a1111, "comfyui": run_comfyui}


def run_one(args: argparse.Namespace) -> None:
    family, _, tool = args.one.partition("/")
    if tool == "layers":
        result: Any = match_layers(args, family)
    else:
        files = {style: make_file(style, layers) for style, layers in json.loads(args.offers.read_text()).items()}
        result = RUNS[tool](args, family, files)
    args.out.write_text(json.dumps(result))


def run_all(args: argparse.Namespace, rest: Iterable[str]) -> dict[str, Any]:
    golden: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        out, offers = Path(folder, "out"), Path(folder, "offers")
        for family in UNETS:
            sgm = layers_of(open_unet(args, family))
            golden[family] = {"offers": offer(family, sgm)}
            offers.write_text(json.dumps(golden[family]["offers"]))
            for tool in ("layers", *RUNS):
                argv = [sys.executable, __file__, *rest, "--out", out, "--one", f"{family}/{tool}", "--offers", offers]
                subprocess.run([str(part) for part in argv], check=True, stdout=sys.stderr)
                golden[family][tool] = json.loads(out.read_text())
    return golden


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    checkouts = ("sd-scripts", "a1111", "comfyui", "ldm", "sgm")
    for checkout in checkouts:
        parser.add_argument(f"--{checkout}", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--offers", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        run_one(args)
        return
    rest = [part for own in checkouts for part in (f"--{own}", str(getattr(args, own.replace("-", "_"))))]
    golden = json.dumps(run_all(args, rest), sort_keys=True, separators=(",", ":"))
    args.out.write_bytes(gzip.compress(golden.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
