"""A merge is the weighted sum of its adapters: by the deltas themselves, and by diffusers' predictions with a stack."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from core.domain.adapter_import import PROGRAM_BYTES
from core.domain.adapter_merge import MergeInput, MergeMethod, MergeRequest, MergeResult
from core.domain.model import Family
from tests.fixtures.bases import write_random_base
from worker.engine.adapter_files.formats import (
    LoraModule,
    describe_for_diffusers,
    export,
    to_diffusers,
    write_safetensors,
)
from worker.engine.adapter_files.merging.merge import merge
from worker.engine.adapter_files.merging.program import merge_adapters
from worker.engine.adapter_files.proof.adapters import AdapterModule, read_adapter
from worker.engine.adapter_files.proof.layers import BaseLayers, Layer, list_layers
from worker.engine.errors import BadInput
from worker.engine.families.protocol import Network
from worker.engine.families.registry import build_networks

HALF = 1e-3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    write_random_base(folder)
    return folder


@pytest.fixture(scope="module")
def networks(base: Path) -> list[Network]:
    return build_networks("sd1", base)


@pytest.fixture(scope="module")
def layers(networks: list[Network]) -> BaseLayers:
    return list_layers("sd1", networks)


def draw(
    networks: list[Network], seed: int, *, kind: str = "lora", targets: str = "all", rank: int = 4, alpha: float = 2.0,
    size: float = 0.1, dtype: torch.dtype = torch.float16,
) -> list[LoraModule]:  # fmt: skip
    """Convolutions with kernels have half the rank and another alpha, as LyCORIS' often do."""
    rng = torch.Generator().manual_seed(seed)
    made = []
    for network in networks:
        for path in network.list_targets(kind, targets):
            outputs, inputs, *kernel = network.module.get_submodule(path).weight.shape
            own = max(1, rank // 2) if max(kernel, default=1) > 1 else rank
            down = torch.randn(own, inputs, *kernel, generator=rng).to(dtype)
            up = (torch.randn(outputs, own, *[1] * len(kernel), generator=rng) * size).to(dtype)
            made.append(LoraModule(network, path, down, up, alpha if own == rank else alpha * 3))
    return made


def write(modules: list[LoraModule], folder: Path) -> Path:
    return export(modules, {}, folder)["kohya"]


def deltas(modules: list[AdapterModule]) -> dict[Layer, torch.Tensor]:
    """Dense, in float64: what the service never makes."""
    return {
        one.layer: one.alpha / len(one.down) * one.up.double().flatten(1) @ one.down.double().flatten(1)
        for one in modules
    }


def add_up(stack: list[tuple[list[AdapterModule], float]]) -> dict[Layer, torch.Tensor]:
    found: dict[Layer, torch.Tensor] = {}
    for modules, weight in stack:
        for layer, delta in deltas(modules).items():
            found[layer] = found.get(layer, torch.zeros_like(delta)) + weight * delta
    return found


def run(
    tmp_path: Path, base: Path, inputs: list[tuple[Path, float]], rank: int | None = None, family: Family = "sd1"
) -> MergeResult:
    method: MergeMethod = "concat" if rank is None else "svd"
    folder = tmp_path / f"{method}{rank}"
    folder.mkdir()
    return merge_adapters(
        MergeRequest(
            family=family,
            model_folder=base,
            inputs=tuple(MergeInput(file=file, weight=w) for file, w in inputs),
            method=method,
            rank=rank,
            name="both",
            trigger="a, b",
            made_from="a (0.7), b (-0.4)",
            resolution=64,
            folder=folder,
            memory_bytes=PROGRAM_BYTES,
        )
    )


STACKS = {
    "unlike ranks and alphas": [({"rank": 4, "alpha": 2.0}, 0.7), ({"rank": 6, "alpha": 9.0}, -0.4)],
    "rsLoRA, whose alpha is alpha * sqrt(rank) in the file": [({"alpha": 2 * 4**0.5}, 1.0), ({"alpha": 4.0}, 0.5)],
    "LoCon and LoRA": [({"kind": "locon", "rank": 4}, 1.0), ({"targets": "attention"}, 0.8)],
    "three, one in float32": [({}, 0.3), ({"dtype": torch.float32, "size": 2.0}, 0.3), ({"kind": "locon"}, 1.5)],
}


@pytest.mark.parametrize("name", STACKS)
def test_a_concatenation_is_the_weighted_sum(
    tmp_path: Path, base: Path, networks: list[Network], layers: BaseLayers, name: str
) -> None:
    """With the text encoder's layers: the adapters' own, or only one's."""
    drawn = [(draw(networks, seed, **kind), weight) for seed, (kind, weight) in enumerate(STACKS[name])]  # type: ignore[arg-type]
    files = [(write(modules, tmp_path / f"{number}"), weight) for number, (modules, weight) in enumerate(drawn)]
    done = run(tmp_path, base, files)
    assert done.findings is not None and done.error is not None, done.refusal
    stack = [(read_adapter(path, layers), weight) for path, weight in files]
    exact = add_up(stack)
    for path in done.files.values():
        read = read_adapter(path, layers)
        assert all(module.alpha == len(module.down) for module in read)
        assert {module.down.dtype for module in read} == {torch.float16}
        merged = deltas(read)
        assert merged.keys() == exact.keys()
        for layer, delta in merged.items():
            assert (delta - exact[layer]).norm() <= HALF * exact[layer].norm(), layer
    assert done.error.total < HALF / 2
    assert done.findings.proofs["kohya"].holds and done.findings.proofs["diffusers"].holds
    assert done.findings.type == ("locon" if "LoCon" in name or "three" in name else "lora")


def test_diffusers_predicts_the_same_as_with_the_stack(
    tmp_path: Path, base: Path, networks: list[Network], layers: BaseLayers
) -> None:
    """Its ``set_adapters`` on the sources, against the merged file alone."""
    weights = [0.7, -0.4]
    kinds = [draw(networks, 1, kind="locon", rank=4, size=0.02), draw(networks, 2, rank=6, alpha=9.0, size=0.02)]
    folders = [tmp_path / "0", tmp_path / "1"]
    files = [write(modules, folder) for modules, folder in zip(kinds, folders, strict=True)]
    done = run(tmp_path, base, list(zip(files, weights, strict=True)))
    plain = predict(StableDiffusionPipeline.from_pretrained(base))
    stacked = StableDiffusionPipeline.from_pretrained(base)
    for name, folder in zip("ab", folders, strict=True):
        stacked.load_lora_weights(folder, weight_name="pytorch_lora_weights.safetensors", adapter_name=name)
    stacked.set_adapters(["a", "b"], weights)
    expected = predict(stacked)
    assert all((one - two).norm() > 0.02 * two.norm() for one, two in zip(expected, plain, strict=True)), (
        "it does nothing"
    )
    for path in done.files.values():
        merged = StableDiffusionPipeline.from_pretrained(base)
        merged.load_lora_weights(path.parent, weight_name=path.name)
        for one, two, zero in zip(predict(merged), expected, plain, strict=True):
            assert (one - two).norm() < 3e-3 * (two - zero).norm()


@torch.no_grad()
def predict(pipeline: StableDiffusionPipeline) -> tuple[torch.Tensor, torch.Tensor]:
    """A text's states, and the noise that the U-Net predicts for fixed latents with them."""
    ids = pipeline.tokenizer("a cat", padding="max_length", max_length=16, return_tensors="pt").input_ids
    states = pipeline.text_encoder(ids)[0]
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    return states, pipeline.unet(latents, 500, states).sample


@pytest.mark.parametrize("rank", [1, 3, 5, 64])
def test_the_error_of_a_cut_is_the_true_one(
    tmp_path: Path, base: Path, networks: list[Network], layers: BaseLayers, rank: int
) -> None:
    """And no matrix of the rank comes nearer, by the SVD of the dense sum."""
    drawn = [(draw(networks, 1, kind="locon"), 0.7), (draw(networks, 2, rank=6, targets="attention"), 1.1)]
    files = [(write(modules, tmp_path / f"{number}"), weight) for number, (modules, weight) in enumerate(drawn)]
    done = run(tmp_path, base, files, rank)
    assert done.findings is not None and done.error is not None, done.refusal
    exact = add_up([(read_adapter(path, layers), weight) for path, weight in files])
    merged = deltas(read_adapter(done.files["kohya"], layers))
    said = {one.layer: one.error for one in done.error.layers}
    assert [one.error for one in done.error.layers] == sorted(said.values(), reverse=True)
    for layer, delta in exact.items():
        true = float((merged[layer] - delta).norm() / delta.norm())
        assert said[f"{layer.part}.{layer.path}"] == pytest.approx(true, abs=1e-6)
        values = torch.linalg.svdvals(delta)
        best = float(values[rank:].norm() / values.norm())
        assert true == pytest.approx(best, abs=HALF)
    apart = sum(float((merged[layer] - delta).norm() ** 2) for layer, delta in exact.items())
    assert done.error.total == pytest.approx(
        (apart / sum(float(d.norm() ** 2) for d in exact.values())) ** 0.5, abs=1e-6
    )
    assert done.findings.rank == max(len(m.down) for m in read_adapter(done.files["kohya"], layers)) <= rank


def test_small_and_large_numbers_survive(networks: list[Network], layers: BaseLayers, tmp_path: Path) -> None:
    """Halves of unlike size are balanced; what float16 still cannot hold is written in float32."""
    rows = draw(networks, 1, dtype=torch.float32, alpha=4.0)
    uneven = [replace(row, down=row.down * 3e5, up=row.up * 1e-6) for row in rows]
    even = merge([(read_written(uneven, tmp_path / "a", layers), 1.0)])
    assert {one.down.dtype for one in even.modules} == {torch.float16} and even.error.total < HALF
    tiny = [replace(row, up=row.up * 1e-9) for row in rows]
    for scaled in (tiny, [replace(row, down=row.down * 1e6, up=row.up * 1e6) for row in rows]):
        folder = tmp_path / ("b" if scaled is tiny else "c")
        merged = merge([(read_written(scaled, folder, layers), 1.0)])
        assert {one.down.dtype for one in merged.modules} == {torch.float32} and merged.error.total < 1e-6


def read_written(modules: list[LoraModule], folder: Path, layers: BaseLayers) -> list[AdapterModule]:
    return read_adapter(write(modules, folder), layers)


def test_a_layer_without_an_update_stays_one(networks: list[Network], layers: BaseLayers, tmp_path: Path) -> None:
    """As a fresh adapter has: ``up`` is zero."""
    rows = [replace(row, up=torch.zeros_like(row.up)) for row in draw(networks, 1)]
    for rank in (None, 2):
        merged = merge([(read_written(rows, tmp_path / f"{rank}", layers), 0.5)], rank)
        assert merged.error.total == 0
        assert all(torch.isfinite(one.down).all() and not one.up.any() for one in merged.modules)


def test_dora_and_broken_numbers_are_refused(
    tmp_path: Path, base: Path, networks: list[Network], layers: BaseLayers
) -> None:
    rows = draw(networks, 1)
    dora = [
        replace(
            row, magnitude=torch.ones(len(row.up)).reshape(*([1] * (row.up.ndim == 4)), -1, *[1] * (row.up.ndim - 2))
        )
        for row in rows
    ]
    path = write(dora, tmp_path / "dora")
    done = run(tmp_path, base, [(path, 1.0)])
    assert done.refusal is not None and "DoRA" in done.refusal and done.files == {}
    broken = [replace(rows[0], up=torch.full_like(rows[0].up, torch.inf)), *rows[1:]]
    with pytest.raises(BadInput, match="NaN or infinite"):
        merge([(read_written(broken, tmp_path / "broken", layers), 1.0)])


def test_the_files_say_what_they_were_made_from_and_are_stable(
    tmp_path: Path, base: Path, networks: list[Network]
) -> None:
    from tests.worker.engine.adapter_files.test_importing import metadata_of

    files = [(write(draw(networks, seed), tmp_path / f"{seed}"), 0.5) for seed in (1, 2)]
    done = run(tmp_path, base, files)
    said = metadata_of(done.files["kohya"])
    assert (said["modelspec.title"], said["modelspec.merged_from"]) == ("both", "a (0.7), b (-0.4)")
    assert (said["ss_network_dim"], said["ss_network_alpha"]) == ("8", "8.0")
    assert said["modelspec.trigger_phrase"] == "a, b"
    again = tmp_path / "again"
    again.mkdir()
    assert run(again, base, files).files["kohya"].read_bytes() == done.files["kohya"].read_bytes()


def test_a_single_file_of_a_family_with_two_text_encoders_is_cut(tmp_path: Path) -> None:
    folder = tmp_path / "sdxl"
    write_random_base(folder, family="sdxl")
    networks = build_networks("sdxl", folder)
    modules = draw(networks, 3, kind="locon")
    write_safetensors(tmp_path / "a.safetensors", to_diffusers(modules), describe_for_diffusers(modules))
    done = run(tmp_path, folder, [(tmp_path / "a.safetensors", 1.0)], 2, "sdxl")
    assert done.findings is not None and done.error is not None, done.refusal
    assert done.findings.rank == 2 and 0.1 < done.error.total < 0.9
    assert done.findings.proofs["kohya"].holds
    assert any(key.startswith("lora_te2_") for key in load_file(done.files["kohya"]))
