"""Files made elsewhere: read, refused with the reason, or written anew so that both formats say the same."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from core.domain.adapter_import import MAX_IGNORED, PROGRAM_BYTES, ImportRequest, ImportResult
from core.domain.model import Family
from tests.fixtures.bases import write_random_base
from worker.engine.adapter_files.formats import LoraModule, Tensors, describe_for_diffusers, to_diffusers, to_kohya
from worker.engine.adapter_files.importing import import_adapter
from worker.engine.adapter_files.proof.adapters import AdapterModule, read_adapter
from worker.engine.adapter_files.proof.layers import list_layers
from worker.engine.families.protocol import Network
from worker.engine.families.registry import build_networks

FAMILIES: tuple[Family, ...] = ("sd1", "sd2", "sdxl")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Family, Path]:
    home = tmp_path_factory.mktemp("models")
    for family in FAMILIES:
        write_random_base(home / family, family=family)
    return {family: home / family for family in FAMILIES}


def draw(networks: list[Network], kind: str = "lora", *, rank: int = 4, alpha: float = 2.0) -> list[LoraModule]:
    """Seeded halves on all targets; a LoCon's convolutions have half the rank and alpha, as LyCORIS' often do."""
    rng = torch.Generator().manual_seed(5)
    made = []
    for network in networks:
        for path in network.list_targets(kind, "all"):
            outputs, inputs, *kernel = network.module.get_submodule(path).weight.shape
            ones, own = [1] * len(kernel), rank // 2 if max(kernel, default=1) > 1 else rank
            down = torch.randn(own, inputs, *kernel, generator=rng)
            up = torch.randn(outputs, own, *ones, generator=rng) / 10
            magnitude = torch.rand(*([1] if kernel else []), outputs, *ones, generator=rng) if kind == "dora" else None
            made.append(LoraModule(network, path, down, up, alpha * own / rank, magnitude))
    return made


def run(
    tmp_path: Path, folders: dict[Family, Path], family: Family, tensors: Tensors | None = None, **said: str
) -> ImportResult:
    folder = tmp_path / "written"
    folder.mkdir(exist_ok=True)
    if tensors is not None:
        save_file(
            {key: tensor.clone().contiguous() for key, tensor in tensors.items()}, tmp_path / "a.safetensors", said
        )
    file = tmp_path / "a.safetensors"
    return import_adapter(
        ImportRequest(family=family, model_folder=folders[family], file=file, folder=folder, memory_bytes=PROGRAM_BYTES)
    )


GREEDY = """
import torch
from core.domain.adapter_import import ImportRequest
from worker.engine.adapter_files import importing
order = ImportRequest(family="sd1", model_folder=".", file="a", folder=".", memory_bytes=2**30)
importing.limit_memory(order.memory_bytes)
importing._import_adapter = lambda order: torch.zeros(2**30)
print(importing.import_adapter(order).refusal)
"""


def test_a_file_that_takes_more_memory_than_it_may_is_refused() -> None:
    """In a process of its own, whose limit ends with it."""
    said = subprocess.run([sys.executable, "-c", GREEDY], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "reading the file takes more than 1,073,741,824 bytes of memory"


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def update_of(module: AdapterModule) -> torch.Tensor:
    rank = module.down.shape[0]
    return module.alpha / rank * module.up.float().flatten(1) @ module.down.float().flatten(1)


def check_both(adopted: ImportResult, made: list[LoraModule], networks: list[Network], family: Family) -> None:
    """Both files hold every module's update, at the layer that it was made for."""
    assert adopted.findings is not None, adopted.refusal
    assert set(adopted.files) == {"kohya", "diffusers"}
    layers = list_layers(family, networks)
    wanted = {(row.network.diffusers_prefix, row.network.diffusers_path(row.path)): row for row in made}
    for path in adopted.files.values():
        read = read_adapter(path, layers)
        assert {(row.layer.part, row.layer.path) for row in read} == set(wanted)
        for row in read:
            source = wanted[row.layer.part, row.layer.path]
            update = source.alpha / source.rank * source.up.flatten(1) @ source.down.flatten(1)
            assert torch.allclose(update_of(row), update, atol=1e-5)


@pytest.mark.parametrize("kind", ["lora", "locon", "dora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_files_of_both_formats_come_out_as_both(
    tmp_path: Path, folders: dict[Family, Path], family: Family, kind: str
) -> None:
    networks = build_networks(family, folders[family])
    made = draw(networks, kind)
    kohya = run(tmp_path, folders, family, to_kohya(made), ss_output_name="theirs")
    check_both(kohya, made, networks, family)
    assert kohya.findings is not None
    assert (kohya.findings.type, kohya.findings.rank) == (kind, 4)
    assert kohya.findings.proofs["kohya"].holds, kohya.findings.proofs["kohya"]
    assert kohya.findings.proofs["diffusers"].holds
    first = kohya.files["diffusers"].read_bytes(), load_file(kohya.files["kohya"])
    again = run(tmp_path, folders, family, load_file(kohya.files["diffusers"]), **metadata_of(kohya.files["diffusers"]))
    check_both(again, made, networks, family)
    assert again.files["diffusers"].read_bytes() == first[0], "what is imported again keeps its bytes"


def test_what_the_maker_said_is_kept_and_what_tools_need_is_added(tmp_path: Path, folders: dict[Family, Path]) -> None:
    made = draw(build_networks("sdxl", folders["sdxl"]))
    said = {"ss_output_name": "ink", "ss_sd_model_name": "x", "modelspec.trigger_phrase": " inkish\n", "secret": "no"}
    stale = {"modelspec.hash_sha256": "0xdead", "sshs_model_hash": "dead", "ss_base_model_version": "sd_v1"}
    adopted = run(tmp_path, folders, "sdxl", to_kohya(made), **said, **stale)
    assert adopted.findings is not None and adopted.findings.trigger == "inkish"
    kept = metadata_of(adopted.files["kohya"])
    assert (kept["ss_output_name"], kept["ss_sd_model_name"]) == ("ink", "x")
    assert kept["ss_base_model_version"] == "sdxl_base_v1-0", "or A1111 would hide it"
    assert "secret" not in kept and "dead" not in kept["modelspec.hash_sha256"] + kept["sshs_model_hash"]
    first = adopted.files["kohya"].read_bytes()
    assert run(tmp_path, folders, "sdxl", to_kohya(made), **said, **stale).files["kohya"].read_bytes() == first


def rename_as_lycoris(tensors: Tensors) -> Tensors:
    """LyCORIS' own prefix, which stands for the U-Net's layers as well."""
    return {key.replace("lora_unet_", "lycoris_"): tensor for key, tensor in tensors.items()}


def test_a_locon_of_lycoris_loads_in_diffusers_as_it_was_meant(tmp_path: Path, folders: dict[Family, Path]) -> None:
    """With ranks and alphas that differ within the file: diffusers' loader adds each layer's very update."""
    networks = build_networks("sd1", folders["sd1"])
    made = [row for row in draw(networks, "locon", alpha=3.0) if row.network is networks[0]]
    adopted = run(tmp_path, folders, "sd1", rename_as_lycoris(to_kohya(made)))
    check_both(adopted, made, networks, "sd1")
    assert adopted.findings is not None and adopted.findings.type == "locon"
    unet = UNet2DConditionModel.from_pretrained(folders["sd1"], subfolder="unet")
    before = {row.path: unet.get_submodule(row.path).weight.detach().clone() for row in made}
    unet.load_lora_adapter(
        load_file(adopted.files["diffusers"]), prefix="unet", metadata=read_config(adopted.files["diffusers"])
    )
    unet.fuse_lora()
    for row in made:
        layer = unet.get_submodule(row.path)
        after = getattr(layer, "base_layer", layer).weight
        update = (row.alpha / row.rank * row.up.flatten(1) @ row.down.flatten(1)).reshape(after.shape)
        assert torch.allclose(after - before[row.path], update, atol=1e-5), row.path


def read_config(path: Path) -> dict[str, object]:
    """As diffusers' pipelines take it from the file."""
    return dict(json.loads(metadata_of(path)["lora_adapter_metadata"]))


def test_dora_on_some_layers_only_has_no_file_for_diffusers(tmp_path: Path, folders: dict[Family, Path]) -> None:
    made = draw(build_networks("sd1", folders["sd1"]), "dora")
    tensors = to_kohya(made)
    tensors.pop(next(key for key in tensors if key.endswith("dora_scale")))
    adopted = run(tmp_path, folders, "sd1", tensors)
    assert set(adopted.files) == {"kohya"} and adopted.findings is not None and adopted.findings.type == "dora"


def test_what_cannot_be_used_is_refused_with_the_reason(tmp_path: Path, folders: dict[Family, Path]) -> None:
    good = to_kohya(draw(build_networks("sd1", folders["sd1"])))
    key = next(key for key in good if key.endswith("to_q.lora_down.weight"))
    name = key.removesuffix(".lora_down.weight")
    four = torch.zeros(4, 4)
    refused: dict[str, Tensors] = {
        "an incomplete LoHa (LyCORIS) layer": {f"{name}.hada_w1_a": four, f"{name}.hada_w1_b": four},
        "an incomplete LoKr (LyCORIS) layer": {f"{name}.lokr_w1": four, f"{name}.alpha": torch.tensor(1.0)},
        "this file is an OFT adapter": {f"{name}.oft_blocks": torch.zeros(2, 4, 4)},
        "changes only whole weights or norms": {"lora_unet_conv_norm_out.w_norm": torch.zeros(8)},
        "this file is an embedding (textual inversion)": {"emb_params": four},
        "this file is a whole checkpoint": {"model.diffusion_model.out.2.weight": four},
        "none of the file's 2 tensors fits": {f"lora_unet_nowhere.lora_{half}.weight": four for half in ("down", "up")},
        "does not fit the base": {**good, key: torch.zeros(4, 3)},
        "NaN": {**good, key: torch.full_like(good[key], torch.nan)},
        "torch.int32": {**good, key: good[key].int()},
        "not a positive number": {**good, f"{name}.alpha": torch.tensor(-1.0)},
        "no LoRA": {"unet.conv_in.weight": torch.zeros(2)},
    }
    for reason, tensors in refused.items():
        adopted = run(tmp_path, folders, "sd1", tensors)
        assert adopted.findings is None and adopted.files == {}
        assert adopted.refusal is not None and reason in adopted.refusal, (reason, adopted.refusal)
        assert "safetensors" not in adopted.refusal, "a name that nobody sent"


def test_a_hostile_name_is_not_repeated_as_it_is(tmp_path: Path, folders: dict[Family, Path]) -> None:
    """PostgreSQL takes no NUL."""
    made, name = to_kohya(draw(build_networks("sd1", folders["sd1"]))), "lora_unet_\x00\x1b"
    adopted = run(tmp_path, folders, "sd1", {**made, f"{name}.alpha": torch.tensor(1.0)})
    assert adopted.findings is not None and [row.key for row in adopted.findings.ignored] == ["lora_unet_??.alpha"]
    halves = {f"{name}.lora_{half}.weight": torch.zeros(4, 4) for half in ("down", "up")}
    refused = run(tmp_path, folders, "sd1", halves)
    assert refused.refusal is not None and "lora_unet_??.lora_down" in refused.refusal


def test_what_fits_is_taken_and_what_does_not_is_listed(tmp_path: Path, folders: dict[Family, Path]) -> None:
    networks = build_networks("sd1", folders["sd1"])
    made = draw(networks)
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0"
    besides = {
        "bundle_emb.cat.string_to_param.*": "embedding",
        "lora_unet_conv_norm_out.w_norm": "norm",
        f"{layer}_norm1.diff": "norm",
        "lora_unet_mid_block_resnets_0_conv1.diff": "whole weight",
        "lora_unet_mid_block_resnets_0_conv2.hada_w1_a": "LoHa",
        "lora_te_text_model_encoder_layers_40_mlp_fc1.lora_down.weight": "does not have",
        "lora_unet_mid_block_resnets_1_conv1.lora_up.weight": "pair of halves",
        "network_alpha": "not a tensor of a LoRA",
        "unet.mid_block.resnets.0.conv1.lora_B.bias": "a LoRA's bias",
    }
    others = {key: torch.ones(2, 2) for key in besides} | {"network_alpha": torch.tensor(3.0)}
    adopted = run(tmp_path, folders, "sd1", to_kohya(made) | others)
    check_both(adopted, made, networks, "sd1")
    assert adopted.findings is not None and adopted.findings.num_ignored == len(besides)
    reasons = {row.key: row.reason for row in adopted.findings.ignored}
    assert reasons.keys() == besides.keys() and all(besides[key] in reasons[key] for key in besides), reasons


def test_the_list_of_what_was_not_taken_ends_somewhere(tmp_path: Path, folders: dict[Family, Path]) -> None:
    made = to_kohya(draw(build_networks("sd1", folders["sd1"])))
    adopted = run(tmp_path, folders, "sd1", made | {f"{'x' * 300}{number}": torch.zeros(1) for number in range(80)})
    assert adopted.findings is not None and adopted.findings.num_ignored == 80
    assert len(adopted.findings.ignored) == MAX_IGNORED
    assert max(len(row.key) for row in adopted.findings.ignored) <= 200


@pytest.mark.parametrize(
    ("down", "up", "written"),
    [
        (torch.float64, torch.float64, torch.float32),
        (torch.float16, torch.bfloat16, torch.float32),
        (torch.float32, torch.float16, torch.float32),
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.float8_e4m3fn, torch.float16, torch.float16),
        (torch.float8_e5m2, torch.float8_e5m2, torch.float16),
    ],
)
def test_halves_of_any_type_come_out_in_one_that_holds_both(
    tmp_path: Path, folders: dict[Family, Path], down: torch.dtype, up: torch.dtype, written: torch.dtype
) -> None:
    networks = build_networks("sd1", folders["sd1"])
    made = [replace(row, down=row.down.to(down), up=row.up.to(up), alpha=4.0) for row in draw(networks)]
    adopted = run(tmp_path, folders, "sd1", to_kohya(made))
    check_both(adopted, [replace(row, down=row.down.float(), up=row.up.float()) for row in made], networks, "sd1")
    for path in adopted.files.values():
        halves = [tensor for key, tensor in load_file(path).items() if not key.endswith(".alpha")]
        assert {tensor.dtype for tensor in halves} == {written}


def test_a_file_of_another_family_is_refused_by_name(tmp_path: Path, folders: dict[Family, Path]) -> None:
    """Recognized by the second text encoder, because these test bases have widths of their own."""
    adopted = run(tmp_path, folders, "sd1", to_kohya(draw(build_networks("sdxl", folders["sdxl"]))))
    assert adopted.refusal is not None and "the file is for sdxl" in adopted.refusal


def test_a_cut_file_and_a_pickle_are_refused(tmp_path: Path, folders: dict[Family, Path]) -> None:
    made = draw(build_networks("sd1", folders["sd1"]))
    save_file(to_diffusers(made), tmp_path / "a.safetensors", describe_for_diffusers(made))
    whole = (tmp_path / "a.safetensors").read_bytes()
    for content in (whole[:-100], whole[:20], b"PK\x03\x04 a pickle", b"\xff" * 64):
        (tmp_path / "a.safetensors").write_bytes(content)
        adopted = run(tmp_path, folders, "sd1")
        assert adopted.refusal is not None and "not a complete safetensors file" in adopted.refusal
