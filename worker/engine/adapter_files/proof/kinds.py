"""Names for tensors that a LoRA does not have, in their authors' terms."""

import re

from worker.engine.adapter_files.proof.files import AdapterFile, role_of, split_key
from worker.engine.errors import BadInput

_ADAPTERS = (  # a pattern in a key, and the type of adapter that has it
    (r"\.hada_", "an incomplete LoHa (LyCORIS) layer"),
    (r"\.lokr_", "an incomplete LoKr (LyCORIS) layer"),
    (r"\.(oft_blocks|oft_diag|oft_R)\b", "an OFT adapter"),
    (r"\.boft_", "a BOFT adapter"),
    (r"\.(a1|a2|b1|b2)\.weight$|\.glora", "a GLoRA (LyCORIS) adapter"),
    (r"\.(on_input|ia3_l)\b", "an (IA)^3 adapter"),
    (r"\.vera_lambda|\bvera_[AB]\b", "a VeRA adapter"),
    (r"\blora_controlnet$", "a ControlNet in LoRA's form"),
)
_NORM = re.compile(r"\.(w_norm|b_norm)$|norm\w*\.(diff|diff_b|set_weight)$|norm\d?\.(weight|bias)$")
_DIFFERENCE = re.compile(r"\.(diff|diff_b|set_weight)$")
_EMBEDDING = re.compile(r"^bundle_emb\.|string_to_(param|token)|^(emb_params|clip_[lg])$")
_CHECKPOINT = re.compile(r"^(model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\.")
_BIAS = re.compile(r"\.lora_B(\.[^.]+)?\.bias$|\.lora\.up\.bias$")
_END_CHARS = 250
"""This much of both ends of a key is examined: a hostile one may have millions of characters."""


def name_kind(key: str) -> str | None:
    """The other type of adapter that a key belongs to."""
    key = _shorten(key)
    return next((kind for mark, kind in _ADAPTERS if re.search(mark, key)), None)


def explain_key(key: str) -> str:
    """Why a tensor of another type than LoRA's is ignored."""
    key = _shorten(key)
    if kind := name_kind(key):
        return f"belongs to {kind}; only LoRA, LoCon and DoRA are supported"
    if _EMBEDDING.search(key):
        return "belongs to an embedding (textual inversion) bundled with the adapter; only adapters are supported"
    if _NORM.search(key):
        return "is a change of a norm, which no LoRA, LoCon or DoRA has"
    if _DIFFERENCE.search(key):
        return "is a change of a whole weight or bias, which no LoRA, LoCon or DoRA has"
    if _BIAS.search(key):
        return "is a LoRA's bias, which no other tool reads"
    return "is not a tensor of a LoRA, LoCon or DoRA"


def _shorten(key: str) -> str:
    return key if len(key) <= 2 * _END_CHARS else f"{key[:_END_CHARS]}…{key[-_END_CHARS:]}"


def refuse_other_kinds(file: AdapterFile) -> None:
    """Raises BadInput with a description of the file, if no layer of it is a LoRA's."""
    roles = {role_of(split_key(key)[1]) for key in file.shapes}
    if {"down", "up"} <= roles:
        return
    for key in file.shapes:
        if kind := name_kind(key):
            raise BadInput(f"this file is {kind}; only LoRA, LoCon and DoRA are supported ({key})")
    raise BadInput(_describe_rest([_shorten(key) for key in file.shapes]))


def _describe_rest(keys: list[str]) -> str:
    shown = f" ({keys[0]})" if keys else ""
    if any(_CHECKPOINT.search(key) for key in keys):
        return f"this file is a whole checkpoint, not an adapter: register it as a base model{shown}"
    if any(_EMBEDDING.search(key) for key in keys):
        return f"this file is an embedding (textual inversion), not an adapter{shown}"
    if keys and all(_NORM.search(key) or _DIFFERENCE.search(key) for key in keys):
        return f"this file changes only whole weights or norms; only LoRA, LoCon and DoRA are supported{shown}"
    return "the file has no LoRA: no pair of lora_down and lora_up, lora_A and lora_B, or lora.down and lora.up"
