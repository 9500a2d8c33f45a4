"""Files made by others: what they are, whether they fit, and the modules that they hold."""

import time
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from tests.worker.engine.adapter_files.proof.bases import base, diffusers_file, kohya_file, modules
from worker.engine.adapter_files.formats import LoraModule, describe_for_diffusers, to_diffusers, to_kohya
from worker.engine.adapter_files.proof.adapters import AdapterModule, read_adapter
from worker.engine.adapter_files.proof.files import AdapterFile, read_file, role_of, split_key
from worker.engine.adapter_files.proof.fitting import check_fits
from worker.engine.adapter_files.proof.identify import identify
from worker.engine.adapter_files.proof.kinds import explain_key
from worker.engine.adapter_files.proof.layers import BaseLayers, list_layers
from worker.engine.errors import BadInput
from worker.engine.families.unet import UnetNetwork


@pytest.mark.parametrize("kind", ["lora", "locon", "dora"])
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_every_kind_of_both_formats_is_known_for_what_it_is(family: str, kind: str) -> None:
    made = modules(family, kind, "all")
    texts = ("text_encoder", "text_encoder_2") if family == "sdxl" else ("text_encoder",)
    for file, alpha in ((kohya_file(family, made), 2.0), (diffusers_file(made), 4.0)):
        found = identify(file)
        assert (found.family, found.ranks, found.alphas, found.text_encoders) == (family, (4,), (alpha,), texts)
        assert (found.dora, found.convolutions) == (kind == "dora", kind == "locon")
        assert check_fits(file, base(family)) is None


@pytest.mark.parametrize(("file_of", "base_of"), [("sd1", "sd2"), ("sd2", "sd1"), ("sdxl", "sd1"), ("sd1", "sdxl")])
def test_a_file_of_another_family_is_refused_by_name(file_of: str, base_of: str) -> None:
    reason = check_fits(kohya_file(file_of, modules(file_of, "lora", "attention")), base(base_of))
    assert reason is not None and reason.startswith(f"the file is for {file_of}")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("lora_unet_mid_block_attentions_0_proj_in.hada_w1_a", "LoHa"),
        ("lora_unet_mid_block_attentions_0_proj_in.lokr_w1", "LoKr"),
        ("lora_unet_mid_block_attentions_0_proj_in.oft_blocks", "OFT"),
        ("lora_unet_mid_block_attentions_0_proj_in.diff", "changes only whole weights"),
    ],
)
def test_other_kinds_are_refused_with_their_name(key: str, kind: str) -> None:
    with pytest.raises(BadInput, match=kind):
        identify(AdapterFile({key: (4, 4)}, {}))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("lora_unet_double_blocks_0_img_attn_qkv", "flux"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", "sd3"),
        ("lora_unet_mid_block_attentions_0_proj_in", "unknown"),
    ],
)
def test_the_other_families_are_named(name: str, family: str) -> None:
    found = identify(AdapterFile({f"{name}.lora_down.weight": (4, 8), f"{name}.lora_up.weight": (8, 4)}, {}))
    assert found.family == family


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"PK\x03\x04 a pickle")
    with pytest.raises(BadInput, match="not a complete safetensors"):
        identify(read_file(path))
    save_file({"model.weight": torch.zeros(2)}, path)
    with pytest.raises(BadInput, match="no LoRA"):
        identify(read_file(path))


@pytest.fixture(scope="module")
def small() -> UnetNetwork:
    return UnetNetwork(
        UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=12,
            attention_head_dim=2,
            norm_num_groups=4,
        )
    )


def draw(network: UnetNetwork, kind: str) -> list[LoraModule]:
    """Random halves; each layer has a rank of its own kind of numbers, so that none can stand for another."""
    rng = torch.Generator().manual_seed(5)
    made = []
    for path in network.list_targets(kind, "all"):
        outputs, inputs, *kernel = network.module.get_submodule(path).weight.shape
        ones = [1] * len(kernel)
        magnitude = torch.rand(*([1] if kernel else []), outputs, *ones, generator=rng) if kind == "dora" else None
        down, up = torch.randn(3, inputs, *kernel, generator=rng), torch.randn(outputs, 3, *ones, generator=rng)
        made.append(LoraModule(network, path, down, up, 6.0, magnitude))
    return made


def small_base(network: UnetNetwork) -> BaseLayers:
    return list_layers("sd1", [network])


def same(read: AdapterModule, made: LoraModule) -> bool:
    """The same update, to the last bit: halves of float32 hold what a scale of two or a half makes of them."""
    magnitudes = (read.magnitude, made.magnitude)
    equal = magnitudes == (None, None) or torch.equal(*magnitudes)  # type: ignore[arg-type]
    scale = (made.alpha / made.rank) / (read.alpha / len(read.down))
    return torch.equal(read.down, made.down) and torch.equal(read.up, scale * made.up) and equal


@pytest.mark.parametrize("kind", ["lora", "locon", "dora"])
def test_both_formats_give_the_same_modules_back(tmp_path: Path, small: UnetNetwork, kind: str) -> None:
    made = draw(small, kind)
    kohya, diffusers = tmp_path / "kohya.safetensors", tmp_path / "diffusers.safetensors"
    save_file(to_kohya(made), kohya)
    save_file(to_diffusers(made), diffusers, describe_for_diffusers(made))
    by_path = {row.path: row for row in made}
    for path, alpha in ((kohya, 6.0), (diffusers, 3.0)):
        read = read_adapter(path, small_base(small))
        assert len(read) == len(made) and {row.alpha for row in read} == {alpha}
        assert all(same(row, by_path[row.layer.path]) for row in read)


def test_lycoris_tucker_form_folds_into_the_same_update(tmp_path: Path, small: UnetNetwork) -> None:
    path, name = tmp_path / "locon.safetensors", "lora_unet_mid_block_resnets_0_conv1"
    rng = torch.Generator().manual_seed(6)
    down, mid, up = (torch.randn(*shape, generator=rng) for shape in [(3, 16, 1, 1), (3, 3, 3, 3), (16, 3, 1, 1)])
    tensors = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up, "alpha": torch.tensor(3.0)}
    save_file({f"{name}.{suffix}": tensor for suffix, tensor in tensors.items()}, path)
    (row,) = read_adapter(path, small_base(small))
    picture = torch.randn(1, 16, 5, 5, generator=rng)
    conv = torch.nn.functional.conv2d
    steps = conv(conv(conv(picture, down), mid, padding=1), up)
    assert torch.allclose(conv(conv(picture, row.down, padding=1), row.up), steps, atol=1e-4)


def test_what_does_not_fit_is_refused_with_the_layer(tmp_path: Path, small: UnetNetwork) -> None:
    made = to_kohya(draw(small, "lora"))
    key = next(key for key in made if key.endswith("attn1_to_q.lora_down.weight"))
    made[key] = torch.zeros(3, 5)
    save_file(made, tmp_path / "a.safetensors")
    with pytest.raises(BadInput, match=r"attn1_to_q has halves of \(3, 5\)"):
        read_adapter(tmp_path / "a.safetensors", small_base(small))
    assert read_file(tmp_path / "a.safetensors").shapes[key] == (3, 5)


def test_an_endless_list_of_keys_is_refused_at_once() -> None:
    """A header may have one of millions of characters: nothing that is looked for in it may take longer for that."""
    for key in ("norm" * 500_000, "lora_A." * 200_000 + "x", "." * 2_000_000, "unet." + "a1." * 300_000):
        began = time.process_time()
        assert explain_key(key) == "is not a tensor of a LoRA, LoCon or DoRA"
        assert role_of(split_key(key)[1]) is None
        with pytest.raises(BadInput, match="no LoRA"):
            identify(AdapterFile({key: (4, 4)}, {}))
        assert time.process_time() - began < 2
