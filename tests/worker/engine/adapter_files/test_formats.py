"""The files: that they load, that both say the same, and that the same tensors give the same bytes."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from core.domain.dataset import Bucket
from core.domain.model import ModelInfo
from core.domain.plan import PlannedImage
from tests.fixtures.bases import make_plan, write_pictures
from worker.engine.adapter_files.formats import MAX_TAG_BYTES, count_tags, tensor_bytes, write_safetensors
from worker.engine.adapters import ADAPTER
from worker.engine.bases.inspection import measure_adapters
from worker.engine.device import choose_runtime
from worker.engine.families import load_base
from worker.engine.families.unet import UnetNetwork, list_unet_targets
from worker.engine.observer import RecordingObserver
from worker.engine.training.train import train

SD15 = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
}


@pytest.fixture(scope="module")
def sd15_unet() -> UNet2DConditionModel:
    """SD 1.5's true shapes, without memory."""
    with torch.device("meta"):
        return UNet2DConditionModel(**SD15)


@pytest.fixture(scope="module")
def trained(
    random_base: tuple[Path, ModelInfo], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Path]]:
    """Adapter type -> format -> file, with an alpha that is not the rank and weights far from zero."""
    folder, info = random_base
    manifest, pictures = write_pictures(tmp_path_factory.mktemp("pictures"), [(64, 64)] * 4)
    made = {}
    for kind in ("lora", "locon"):
        plan = make_plan(
            manifest,
            info,
            name="Zap",
            steps=8,
            adapter={"type": kind, "targets": "all", "rank": 4, "alpha": 10},
            optimizer={"learning_rate": 0.02},
            samples={"prompts": []},
        )
        runtime = choose_runtime(plan, torch.device("cpu"), info, 1)
        base = load_base("sd1", folder, torch.device("cpu"), runtime.dtype)
        workdir = tmp_path_factory.mktemp(kind)
        made[kind] = dict(train(plan, runtime, base, pictures, RecordingObserver(), workdir).files)
    return made


def draw(folder: Path, adapter: Path | None) -> np.ndarray:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    if adapter is not None:
        pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
    image = pipeline(
        "zap left", num_inference_steps=4, height=64, width=64, generator=torch.Generator().manual_seed(3)
    ).images[0]
    assert isinstance(image, Image.Image)
    return np.asarray(image, np.int16)


@pytest.mark.parametrize("kind", ["lora", "locon"])
def test_both_files_give_the_same_picture_in_diffusers(
    random_base: tuple[Path, ModelInfo], trained: dict[str, dict[str, Path]], kind: str
) -> None:
    folder = random_base[0]
    base, kohya, diffusers = (
        draw(folder, adapter) for adapter in (None, trained[kind]["kohya"], trained[kind]["diffusers"])
    )
    assert np.abs(kohya - diffusers).max() <= 1
    assert np.abs(kohya - base).max() > 8


@pytest.mark.parametrize("kind", ["lora", "locon"])
def test_every_layer_is_in_both_files_with_its_alpha(
    random_base: tuple[Path, ModelInfo], trained: dict[str, dict[str, Path]], kind: str
) -> None:
    unet = UNet2DConditionModel.from_pretrained(random_base[0], subfolder="unet", local_files_only=True)
    layers = list_unet_targets(unet, kind, "all")
    kohya, diffusers = load_file(trained[kind]["kohya"]), load_file(trained[kind]["diffusers"])
    stems = {f"lora_unet_{name.replace('.', '_')}" for name in layers}
    assert set(kohya) == {f"{stem}.{end}" for stem in stems for end in ("lora_down.weight", "lora_up.weight", "alpha")}
    assert {float(kohya[f"{stem}.alpha"]) for stem in stems} == {10.0}
    assert set(diffusers) == {f"unet.{name}.lora_{half}.weight" for name in layers for half in "AB"}
    assert all(ADAPTER not in key for key in (*kohya, *diffusers))


def test_no_set_of_captions_makes_a_header_that_readers_refuse() -> None:
    """The longest captions, five thousand of them, each another one but for a tag that all have."""
    letters = "\N{CJK UNIFIED IDEOGRAPH-753B}" * 1_900
    images = [
        PlannedImage(key="k", sha256="0", bucket=Bucket(width=64, height=64), caption=f"{letters}{number}, often")
        for number in range(5_000)
    ]
    counted = count_tags(images)
    assert counted["often"] == 5_000 and len(counted) > 10
    assert len(json.dumps(counted)) < MAX_TAG_BYTES


def test_the_metadata_is_that_of_both_worlds(trained: dict[str, dict[str, Path]]) -> None:
    with safe_open(trained["locon"]["kohya"], framework="pt") as file:
        kohya = file.metadata()
    with safe_open(trained["locon"]["diffusers"], framework="pt") as file:
        diffusers = file.metadata()
    assert kohya["ss_network_dim"] == "4"
    assert kohya["ss_network_alpha"] == "10.0"
    assert kohya["ss_base_model_version"] == "sd_v1"
    assert json.loads(kohya["ss_network_args"]) == {"conv_dim": "4", "conv_alpha": "10.0"}
    assert json.loads(kohya["ss_tag_frequency"])["dataset"]["zap"] == 4
    assert json.loads(kohya["ss_bucket_info"])["buckets"]["0"] == {"count": 4, "resolution": [64, 64]}
    assert kohya["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert kohya["modelspec.trigger_phrase"] == "zap"
    assert kohya["modelspec.prediction_type"] == "epsilon"
    assert kohya["ss_new_sd_model_hash"].startswith(kohya["ss_sd_model_hash"])
    assert diffusers["format"] == "pt"
    config = json.loads(diffusers["lora_adapter_metadata"])
    assert (config["unet.lora_alpha"], config["unet.r"]) == (4, 4), "the scale is in the weights"


def test_the_hashes_are_those_that_other_tools_compute(trained: dict[str, dict[str, Path]]) -> None:
    """sd-scripts' model hash is over what follows the header, so it holds whatever the metadata says."""
    path = trained["lora"]["kohya"]
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    digest = hashlib.sha256(tensor_bytes(path.read_bytes())).hexdigest()
    assert metadata["sshs_model_hash"] == digest
    assert metadata["modelspec.hash_sha256"] == f"0x{digest}"


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path) -> None:
    """safetensors alone writes its metadata in random order; twenty keys make a lucky pass unlikely."""
    metadata = {f"key{number}": str(number) for number in range(20)}
    tensors = {"b": torch.ones(3, dtype=torch.float16), "a": torch.zeros(2, 2)}
    contents = set()
    for turn in range(5):
        path = tmp_path / f"{turn}.safetensors"
        write_safetensors(path, tensors, metadata)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    assert load_file(tmp_path / "0.safetensors")["b"].tolist() == [1.0, 1.0, 1.0]


def test_attention_at_rank_4_on_sd15_is_797184_parameters(sd15_unet: UNet2DConditionModel) -> None:
    assert 4 * measure_adapters(UnetNetwork(sd15_unet))["lora/attention"] == 797_184


@pytest.mark.parametrize(
    ("kind", "targets", "count"),
    [("lora", "attention", 128), ("lora", "attention_ff", 160), ("lora", "all", 192), ("locon", "all", 278)],
)
def test_how_many_layers_of_sd15_are_adapted(
    sd15_unet: UNet2DConditionModel, kind: str, targets: str, count: int
) -> None:
    assert len(list_unet_targets(sd15_unet, kind, targets)) == count
