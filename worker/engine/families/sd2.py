"""Stable Diffusion 2.x: 1.x with OpenCLIP's ViT-H as its text encoder; epsilon (512 pixels) or v (768).

The differences are in the configs. The U-Net was trained on the states of the encoder's last but one layer, which
diffusers' layout expresses by leaving out the last one (23 layers of 24): so the last existing one is right. Kohya's
tools name the text encoder `lora_te`, as for 1.x, and its layers 0 to 22.
"""

from dataclasses import replace

from worker.engine.families import sd1
from worker.engine.families.spec import MetadataNames, ToolRules
from worker.engine.families.unet import UnetLayout, published_levels

TEXT = replace(sd1.TEXT, spellings=(*sd1.TEXT_SPELLINGS, "text_encoders.clip_h.transformer.", "clip_h."))

SPEC = replace(
    sd1.SPEC,
    name="sd2",
    recognise=lambda folder: sd1.find_generation(folder) == 2,
    text_encoders=(TEXT,),
    metadata=MetadataNames("sd_v2", "stable-diffusion-v2-512/lora"),
    v_metadata=MetadataNames("sd_v2_v", "stable-diffusion-v2-768-v/lora"),
    ss_v2=True,
    single_file=replace(
        sd1.SPEC.single_file, marks=("cond_stage_model.model.",), published={"epsilon": 512, "v_prediction": 768}
    ),
    tools=ToolRules(
        text_names={
            "sd-scripts": {"lora_te": "text_encoder"},
            "a1111": {"lora_te": "text_encoder"},
            "comfyui": {"lora_te": "text_encoder", "lora_te1": "text_encoder"},
            "diffusers": {"lora_te": "text_encoder", "lora_te1": "text_encoder"},
        },
        published=UnetLayout(published_levels((1, 1), (1, 1), (1, 1), (0, 0)), 1024, None, linear=True),
        fused_qkv="text_encoder",
        a1111_v2="True",
        notes={
            "sd-scripts": "sd-scripts reads it on a base in diffusers' folders; from a single file it expects "
            "convolutions"
        },
    ),
)
