"""Single files: what they are, and what becomes of them."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file
from transformers import CLIPTokenizer

from core.domain.model import Family
from core.domain.registration import ModelSource, RegistrationRequest, RegistrationResult
from core.model_folders import CARD
from tests.fixtures.bases import make_random_pipeline, write_random_base, write_tokenizer
from tests.fixtures.single_files import name_open_clip, name_unet, name_vae, write_configs, write_single_file
from worker.engine.bases.registration import NOTE, prepare
from worker.engine.bases.single_file import identify, read_header
from worker.engine.errors import BadInput
from worker.engine.families import load_base
from worker.engine.hashes import hash_file

FAMILIES: tuple[Family, ...] = get_args(Family)
PROBE = {"ab": (512, 64, 321, 513)}
"""Of the fixtures' vocabulary."""


Pipelines = dict[Family, Any]


class Bench:
    """A models directory with the fixtures' vocabulary in it, and layouts of the tiny size."""

    def __init__(self, home: Path, configs: Path, pipelines: Pipelines) -> None:
        self.home, self.models, self.configs, self.pipelines = home, home / "models", configs, pipelines
        self.models.mkdir()

    def remake(self, family: Family) -> Any:
        """A pipeline of this test's own, to be changed."""
        self.pipelines[family] = make_random_pipeline(self.home / f"words-{family}", "epsilon", family)
        return self.pipelines[family]

    def add_vocabulary(self) -> None:
        write_tokenizer(self.models / "clip")

    def write(self, family: Family, name: str = "model.safetensors", **more: Any) -> Path:
        write_single_file(self.models / name, self.pipelines[family], family, **more)
        return self.models / name

    def prepare(self, path: str, model_id: str = "mine", **source: Any) -> RegistrationResult:
        wanted = ModelSource.model_validate({"path": path, **source})
        order = RegistrationRequest(model_id=model_id, source=wanted, models_path=self.models)
        return prepare(order, configs=self.configs, probe=PROBE, complete=lambda info, _: info)

    def refuse(self, path: Path, match: str) -> None:
        with pytest.raises(BadInput, match=match):
            identify(read_header(path), self.configs)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the Hub, whatever this machine could."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pipelines]:
    folder = tmp_path_factory.mktemp("layouts")
    pipelines = {family: make_random_pipeline(folder / f"words-{family}", "epsilon", family) for family in FAMILIES}
    for family, pipeline in pipelines.items():
        write_configs(folder / family, pipeline)
    return folder, pipelines


@pytest.fixture
def bench(tmp_path: Path, layouts: tuple[Path, Pipelines]) -> Bench:
    configs, pipelines = layouts
    return Bench(tmp_path, configs, dict(pipelines))


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def save(*names: str, shape: tuple[int, ...] = (4, 4)) -> Path:
        path = tmp_path / "some.safetensors"
        save_file({name: torch.zeros(shape) for name in names}, path)
        return path

    return save


def weights(folder: Path) -> dict[str, torch.Tensor]:
    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    return weights_of(pipeline)


def weights_of(pipeline: Any) -> dict[str, torch.Tensor]:
    modules = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {
        f"{part}.{name}": tensor for part, module in modules.items() for name, tensor in module.state_dict().items()
    }


# --- conversion ---


@pytest.mark.parametrize("family", FAMILIES)
def test_a_single_file_becomes_a_folder_of_the_same_weights(bench: Bench, family: Family) -> None:
    bench.add_vocabulary()
    file = bench.write(family)
    made = bench.prepare(file.name, prediction_type="epsilon")
    assert made.refusal is None and made.info is not None and made.folder == bench.models / "mine"
    assert (made.info.id, made.info.family, made.info.resolution) == ("mine", family, 64)
    assert made.info.file_sha256 == hash_file(file)
    found, expected = weights(made.folder), weights_of(bench.pipelines[family])
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert sorted(path.name for path in bench.models.iterdir()) == ["clip", "mine", file.name]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_converted_base_encodes_and_predicts_as_the_original(bench: Bench, family: Family, tmp_path: Path) -> None:
    bench.add_vocabulary()
    bench.write(family)
    folder = bench.prepare("model.safetensors", prediction_type="epsilon").folder
    assert folder is not None
    write_random_base(tmp_path / "original", family=family)
    bases = [load_base(family, path, torch.device("cpu"), torch.float32) for path in (folder, tmp_path / "original")]
    with torch.no_grad():
        ours, theirs = [base.open_text_encoders().encode(["a cat, sleeping"])[0] for base in bases]
    tokenizers = [CLIPTokenizer.from_pretrained(path / "tokenizer") for path in (folder, tmp_path / "original")]
    assert tokenizers[0].pad_token_id == tokenizers[1].pad_token_id
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-5, atol=1e-6)


def test_the_files_precision_is_kept(bench: Bench) -> None:
    bench.add_vocabulary()
    pipeline = bench.remake("sd1")
    pipeline.unet.half()
    pipeline.text_encoder.to(torch.bfloat16)
    bench.write("sd1")
    folder = bench.prepare("model.safetensors").folder
    assert folder is not None
    kinds = {path.parent.name: set(read_header(path).dtypes.values()) for path in folder.glob("*/*.safetensors")}
    assert kinds == {"unet": {"F16"}, "vae": {"F32"}, "text_encoder": {"BF16"}}


def test_sd2_needs_a_prediction_type_unless_the_file_states_it(bench: Bench) -> None:
    bench.add_vocabulary()
    bench.write("sd2")
    refusal = bench.prepare("model.safetensors").refusal
    assert refusal is not None and "prediction_type" in refusal and "v_prediction" in refusal
    bench.write("sd2", metadata={"modelspec.prediction_type": "v"})
    made = bench.prepare("model.safetensors")
    assert made.folder is not None and made.info is not None
    assert made.info.resolution == 768
    assert scheduler_of(made.folder)["prediction_type"] == "v_prediction"
    made = bench.prepare("model.safetensors", prediction_type="epsilon", resolution=128)
    assert made.folder is not None and made.info is not None
    assert (made.info.resolution, scheduler_of(made.folder)["prediction_type"]) == (128, "epsilon")


@pytest.mark.parametrize(
    ("metadata", "prediction_type"),
    [
        ({"modelspec.prediction_type": "epsilon"}, "epsilon"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v"}, "v_prediction"),
        ({"modelspec.architecture": "stable-diffusion-v2-512"}, "epsilon"),
        ({}, None),
    ],
)
def test_what_metadata_tells_of_sd2(bench: Bench, metadata: dict[str, str], prediction_type: str | None) -> None:
    found = identify(read_header(bench.write("sd2", metadata=metadata)), bench.configs)
    assert (found.family, found.prediction_type) == ("sd2", prediction_type)


def test_v_prediction_of_sdxl_is_known_from_its_marks(bench: Bench) -> None:
    bench.add_vocabulary()
    bench.write("sdxl", v_pred=torch.zeros(0), ztsnr=torch.zeros(0))
    folder = bench.prepare("model.safetensors").folder
    assert folder is not None
    assert scheduler_of(folder)["prediction_type"] == "v_prediction"
    assert scheduler_of(folder)["rescale_betas_zero_snr"] is True


def scheduler_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "scheduler" / "scheduler_config.json").read_text()))


def test_a_base_is_made_anew_but_no_folder_of_the_operators_is_lost(bench: Bench) -> None:
    bench.add_vocabulary()
    bench.write("sd1")
    first = bench.prepare("model.safetensors").info
    again = bench.prepare("model.safetensors", description="Another word.").info
    assert first is not None and again is not None
    assert (again.sha256, again.description) == (first.sha256, "Another word.")
    (bench.models / "mine" / NOTE).write_text("Mine, since years.")
    refusal = bench.prepare("model.safetensors").refusal
    assert refusal is not None and "choose another id" in refusal
    assert (bench.models / "mine" / CARD).exists()


# --- vocabulary ---


def test_a_missing_vocabulary_is_said(bench: Bench) -> None:
    bench.write("sd1")
    refusal = bench.prepare("model.safetensors").refusal
    assert refusal is not None
    assert "vocab.json and merges.txt" in refusal and str(bench.models / "clip") in refusal and "OFFLINE" in refusal
    assert sorted(path.name for path in bench.models.iterdir()) == ["model.safetensors"]


def test_the_vocabulary_of_another_base_is_taken_and_others_are_passed_over(bench: Bench) -> None:
    bench.write("sd1")
    other = write_tokenizer(bench.home / "other")
    other.add_tokens(["ab"])
    other.save_pretrained(bench.models / "another" / "tokenizer")
    (bench.models / "broken").mkdir()
    (bench.models / "broken" / "tokenizer.json").write_text("{}")
    write_random_base(bench.models / "registered")
    made = bench.prepare("model.safetensors")
    assert made.folder is not None, made.refusal
    assert CLIPTokenizer.from_pretrained(made.folder / "tokenizer")("ab").input_ids == list(PROBE["ab"])


# --- what is refused ---


def test_pickles_are_refused_by_name_and_by_content(bench: Bench, tmp_path: Path) -> None:
    for name in ("model.ckpt", "model.PT", "pytorch_model.bin"):
        torch.save({"a": torch.zeros(1)}, tmp_path / name)
        bench.refuse(tmp_path / name, "is a pickle, which can run code")
    torch.save({"a": torch.zeros(1)}, tmp_path / "renamed.safetensors")
    bench.refuse(tmp_path / "renamed.safetensors", "a pickle in a ZIP archive")


def test_damaged_and_foreign_files_are_refused(bench: Bench, tmp_path: Path) -> None:
    whole = bench.write("sd1")
    (tmp_path / "short.safetensors").write_bytes(whole.read_bytes()[:-100])
    bench.refuse(tmp_path / "short.safetensors", "cut short")
    for name, content, words in (
        ("empty", b"", "is empty"),
        ("text", b"version https://git-lfs.github.com/spec/v1\n", "pointer that Git LFS leaves"),
        ("huge", struct.pack("<Q", 2**60) + b"{}", "a header of 1,152,921,504,606,846,976 bytes"),
        ("list", struct.pack("<Q", 2) + b"[]", "of another format"),
        ("odd", struct.pack("<Q", 9) + b'{"a": 5}\n', "has other fields for"),
    ):
        (tmp_path / f"{name}.safetensors").write_bytes(content)
        bench.refuse(tmp_path / f"{name}.safetensors", words)
    (tmp_path / "quantised.safetensors").write_bytes(b"GGUF\xff\xff\xff\xff" + bytes(100))
    bench.refuse(tmp_path / "quantised.safetensors", "GGUF")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "a LoRA"),
        ("unet.down_blocks.0.attentions.0.proj_in.lora_A.weight", "a LoRA"),
        ("lora_unet_mid_block.hada_w1_a", "a LoRA"),
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "an SD3 model"),
        ("double_blocks.0.img_attn.qkv.weight", "a Flux model"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "a Flux model"),
        ("control_model.input_blocks.0.0.weight", "a ControlNet"),
        ("decoder.conv_in.weight", "a VAE"),
        ("first_stage_model.decoder.conv_in.weight", "a VAE"),
        ("emb_params", "a textual inversion"),
        ("down_blocks.0.resnets.0.conv1.weight", "a U-Net alone"),
        ("text_model.embeddings.token_embedding.weight", "a text encoder"),
        ("conditioner.embedders.0.model.ln_final.weight", "an SDXL refiner"),
        ("something.else", "of an unknown type"),
    ],
)
def test_other_kinds_of_files_are_refused_by_what_they_are(
    bench: Bench, save: Callable[..., Path], name: str, kind: str
) -> None:
    bench.refuse(save(name), f"is {kind}")


def test_other_kinds_of_unets_are_refused_by_what_they_are(bench: Bench, save: Callable[..., Path]) -> None:
    for channels, kind in {9: "an inpainting model", 8: "an image-editing model", 5: "a depth-to-image"}.items():
        bench.refuse(save("model.diffusion_model.input_blocks.0.0.weight", shape=(8, channels, 3, 3)), kind)


def test_bases_that_are_not_whole_are_refused(bench: Bench, tmp_path: Path) -> None:
    pipeline = bench.pipelines["sdxl"]
    path = tmp_path / "some.safetensors"
    save_file(name_unet(pipeline.unet), path)
    bench.refuse(path, "has no VAE")
    save_file(name_unet(pipeline.unet) | name_vae(pipeline.vae), path)
    bench.refuse(path, "without text encoders")
    refiner = name_open_clip(pipeline.text_encoder_2, "conditioner.embedders.0.model.")
    save_file({name: tensor.contiguous() for name, tensor in (name_unet(pipeline.unet) | refiner).items()}, path)
    bench.refuse(path, "an SDXL refiner")


def test_other_sizes_are_refused(bench: Bench) -> None:
    with pytest.raises(BadInput, match="layers of sd1 in other sizes"):
        identify(read_header(bench.write("sd1")))


def test_eight_bits_are_refused(bench: Bench) -> None:
    bench.add_vocabulary()
    bench.remake("sd1").unet.to(torch.float8_e4m3fn)
    bench.write("sd1")
    refusal = bench.prepare("model.safetensors").refusal
    assert refusal is not None and "F8_E4M3" in refusal


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.diffusion_model.out.2.weight", "lacks tensors of its unet"),
        ("first_stage_model.quant_conv.bias", "lacks tensors of its vae"),
        (
            "cond_stage_model.transformer.text_model.final_layer_norm.bias",
            "lacks 1 tensor of its text_encoder, such as final_layer_norm.bias",
        ),
    ],
)
def test_a_file_that_lacks_tensors_is_refused_and_leaves_nothing(bench: Bench, name: str, words: str) -> None:
    bench.add_vocabulary()
    tensors = write_single_file(bench.models / "model.safetensors", bench.pipelines["sd1"], "sd1")
    del tensors[name]
    save_file(tensors, bench.models / "model.safetensors")
    refusal = bench.prepare("model.safetensors").refusal
    assert refusal is not None and words in refusal
    assert sorted(path.name for path in bench.models.iterdir()) == ["clip", "model.safetensors"]


def test_paths_outside_the_models_directory_are_not_there(bench: Bench, tmp_path: Path) -> None:
    write_random_base(tmp_path / "outside")
    (bench.models / "link").symlink_to(tmp_path / "outside")
    for path in ("../outside", str(tmp_path / "outside"), "link", "none"):
        refusal = bench.prepare(path).refusal
        assert refusal is not None and "no " + path in refusal
