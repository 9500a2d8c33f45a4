"""The networks of ``tiny``: a Stable Diffusion 1.x, small."""

import json
from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers import trainers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from scripts.glyphs import SIZE

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "clip_sample": False,
    "steps_offset": 1,
}


def build_vae() -> AutoencoderKL:
    """3.8 M parameters, 4 times down, 4 channels."""
    return AutoencoderKL(
        block_out_channels=(32, 64, 160),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        sample_size=SIZE,
    )


def build_unet() -> UNet2DConditionModel:
    """12.7 M parameters. Two layers a block, as in Stable Diffusion: the naming rules of other tools rely on them."""
    return UNet2DConditionModel(
        sample_size=SIZE // 4,
        block_out_channels=(64, 128, 160),
        layers_per_block=2,
        cross_attention_dim=96,
        attention_head_dim=4,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=384,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=77,
            projection_dim=96,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_tokenizer(folder: Path, lines: list[str]) -> CLIPTokenizer:
    """A byte-level BPE in CLIP's layout, its merges learned from captions. Created once: the trainer breaks ties
    between merges in another order each time, and the embeddings depend on its numbers."""
    if not (folder / "merges.txt").exists():
        _learn_merges(folder, lines)
    return CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=77)


def _learn_merges(folder: Path, lines: list[str]) -> None:
    alphabet = sorted(ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=2400, min_frequency=2, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    core = CLIPTokenizer().backend_tokenizer
    core.train_from_iterator(lines, trainer)
    merges = [tuple(pair) for pair in json.loads(core.to_str())["model"]["merges"]]
    tokens = alphabet + [char + "</w>" for char in alphabet] + ["".join(pair) for pair in merges]
    tokens = [*list(dict.fromkeys(tokens)), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
