"""The files that we write, as diffusers' own loader adds them; and what a proof says where it does not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.domain.model import Family
from core.domain.proof import ToolProof
from tests.fixtures.bases import write_random_base
from worker.engine.adapter_files.formats import LoraModule, describe_for_diffusers, export, fold_scales, to_diffusers
from worker.engine.adapter_files.proof.files import read_file
from worker.engine.adapter_files.proof.layers import BaseLayers, list_layers
from worker.engine.adapter_files.proof.loaded_files import describe_modules
from worker.engine.adapter_files.proof.measured import Loaded, hollow_out, load_in_diffusers
from worker.engine.adapter_files.proof.prove import prove
from worker.engine.families.protocol import Network
from worker.engine.families.registry import build_networks

FAMILIES: tuple[Family, ...] = ("sd1", "sdxl")
Base = tuple[Family, list[Network], BaseLayers]


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("models") / request.param
    write_random_base(folder, family=request.param)
    networks = build_networks(request.param, folder)
    layers = list_layers(request.param, networks)
    return request.param, networks, layers


def draw(base: Base, kind: str, *, alpha: float, rank: int = 6) -> list[LoraModule]:
    """On the U-Net and every text encoder, in half precision as trained weights are written."""
    rng = torch.Generator().manual_seed(9)
    made = []
    for network in base[1]:
        for path in network.list_targets(kind, "all"):
            outputs, inputs, *kernel = network.module.get_submodule(path).weight.shape
            ones = [1] * len(kernel)
            down = torch.randn(rank, inputs, *kernel, generator=rng).half()
            up = torch.randn(outputs, rank, *ones, generator=rng).half()
            magnitude = torch.rand(*([1] if kernel else []), outputs, *ones, generator=rng).half()
            made.append(LoraModule(network, path, down, up, alpha, magnitude if kind == "dora" else None))
    return made


def load(base: Base, path: Path, made: list[LoraModule]) -> Loaded:
    return load_in_diffusers(path, base[0], base[1], describe_modules(made))


def in_diffusers(base: Base, path: Path, made: list[LoraModule]) -> ToolProof:
    proof = prove(read_file(path), base[2], load(base, path, made))
    return next(row for row in proof.tools if row.tool == "diffusers")


@pytest.mark.parametrize(
    ("kind", "alpha"),
    [
        ("lora", 6.0),
        ("lora", 3.0),
        ("lora", 10.0),
        ("lora", 6 * 6**0.5),
        ("locon", 10.0),
        ("dora", 6.0),
        ("dora", 10.0),
    ],
)
def test_diffusers_adds_what_was_trained(base: Base, tmp_path: Path, kind: str, alpha: float) -> None:
    """Alpha that is the rank, a half of it, an odd share, and rsLoRA's; DoRA's magnitudes of text encoders too."""
    made = draw(base, kind, alpha=alpha)
    files = export(made, {}, tmp_path)
    row = in_diffusers(base, files["diffusers"], made)
    assert (row.verdict, row.num_resolved, row.loads) == ("same", row.num_keys, True), (row.dropped, row.notes)
    assert row.measured is not None and row.measured.num_same == row.measured.num_layers == len(made)
    assert row.measured.max_difference is not None and row.measured.max_difference < 1e-6
    kohya = in_diffusers(base, files["kohya"], made)
    assert kohya.verdict == ("partial" if kind == "dora" else "same")


def test_the_diffusers_file_needs_no_metadata(base: Base, tmp_path: Path) -> None:
    """Versions before 0.35 read none."""
    made = draw(base, "lora", alpha=10.0)
    path = export(made, {}, tmp_path)["diffusers"]
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(path), bare)
    assert load(base, bare, made).summarise().num_same == len(made)


def test_half_precision_is_kept_where_it_holds_the_scaled_numbers(base: Base) -> None:
    for alpha, dtype in ((6.0, torch.float16), (3.0, torch.float16), (24.0, torch.float16), (10.0, torch.float32)):
        made = draw(base, "lora", alpha=alpha)
        folded = fold_scales(made)
        assert {half.dtype for row in folded for half in (row.down, row.up)} == {dtype}
        assert {row.alpha for row in folded} == {6.0}
        for was, now in zip(made, folded, strict=True):
            assert torch.equal(now.up.double(), (was.up.double() * alpha / 6).to(dtype).double())
        assert [id(row) for row in fold_scales(folded)] == [id(row) for row in folded], "nothing is scaled twice"


def test_magnitudes_without_weight_are_found_missing(base: Base, tmp_path: Path) -> None:
    """The names that earlier versions wrote: with transformers 5 a text encoder's arrive nowhere."""
    made = draw(base, "dora", alpha=6.0)
    tensors = {key.replace("_vector.weight", "_vector"): tensor for key, tensor in to_diffusers(made).items()}
    path = tmp_path / "a.safetensors"
    save_file(tensors, path, describe_for_diffusers(made))
    row = in_diffusers(base, path, made)
    num_text = sum(module.network.diffusers_prefix != "unet" for module in made)
    assert (row.verdict, row.num_keys - row.num_resolved, row.loads) == ("partial", num_text, False)
    assert row.dropped[0].key.startswith("text_encoder") and "ignores the magnitude" in row.dropped[0].reason


def test_a_file_with_other_numbers_is_wrong_though_its_names_are_right(base: Base, tmp_path: Path) -> None:
    made = draw(base, "lora", alpha=3.0)
    path = tmp_path / "a.safetensors"
    twice = [replace(row, alpha=6.0) for row in made]
    save_file(to_diffusers(twice), path, describe_for_diffusers(twice))
    row = in_diffusers(base, path, made)
    assert (row.verdict, row.num_resolved, row.loads) == ("wrong", 0, False)
    assert row.measured is not None and row.measured.max_difference == pytest.approx(1.0)
    assert "adds another update" in row.dropped[0].reason


def test_a_file_that_the_loader_gives_up_is_reported(base: Base, tmp_path: Path) -> None:
    made = draw(base, "lora", alpha=6.0)
    path = tmp_path / "a.safetensors"
    save_file({**to_diffusers(made), "unet.conv_in.alpha": torch.tensor(1.0)}, path)
    row = in_diffusers(base, path, made)
    assert (row.verdict, row.num_resolved) == ("nothing", 0)
    assert "gives up the file" in row.dropped[0].reason


def test_a_hollow_network_takes_no_memory_and_has_every_shape(base: Base) -> None:
    for network in base[1]:
        hollow = hollow_out(network.module)
        shapes = {name: weight.shape for name, weight in network.module.named_parameters()}
        assert {name: weight.shape for name, weight in hollow.named_parameters()} == shapes
        assert all(weight.untyped_storage().nbytes() == 4 for weight in hollow.parameters())
